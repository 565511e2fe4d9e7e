"""Writing a checkpoint: all of it appears under its version's name in one step, or nothing does.

The order (`docs/checkpoint-format.md`): write into a staging directory, flush every file, rename, point CURRENT.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import golden
from models.checkpoint.manifest import DataRecord, FileEntry, GateRecord, Manifest, ModelShape, TrainerRecord
from models.checkpoint.reader import (
    CURRENT,
    FOLD_IN,
    GOLDEN,
    ITEM_SCHEMA,
    ITEMS,
    MANIFEST,
    RELEVANCE,
    SEEN,
    USER_SCHEMA,
    USERS,
    VOCABULARY,
    WEIGHTS,
    hash_file,
    published,
)
from models.checkpoint.vocabulary import Vocabulary
from models.errors import PublicationError
from models.fold_in_prior import FoldInPrior
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings

LOCK, STAGING = ".lock", ".staging-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A model about to be published.

    Attributes:
        model: its tables, finite, on any device.
        users: `USER_SCHEMA`, U rows.
        items: `ITEM_SCHEMA`, I rows; `ratings` counts what `seen` holds of each.
        seen: the training ratings of each user, within the scale.
        scale: the lowest and the highest rating of the data.
        trainer, data, gate, metrics: for the manifest.
        write_report: writes files into the directory it is given; they become `report/`.
        relevance: what orders lists, finite, on any device; None where only r̂ does.
    """

    model: MatrixFactorization
    users: pa.Table
    items: pa.Table
    seen: TrainingRatings
    scale: tuple[float, float]
    trainer: TrainerRecord
    data: DataRecord
    gate: GateRecord
    metrics: Mapping[str, float | None]
    write_report: Callable[[Path], None]
    relevance: RelevanceHead | None = None


def publish(directory: Path, draft: Draft, *, activate: bool = True) -> Manifest:
    """Write `draft` as a new version in `directory`, make it the current one, and return its manifest.

    One process publishes at a time; others wait. With `activate` false CURRENT stays, unless there is none. Raises
    PublicationError, with nothing published and nothing left behind, when the files cannot be written (no room, no
    permission).
    """
    with reporting(f"cannot publish to {directory}", "nothing was published"):
        directory.mkdir(parents=True, exist_ok=True)
        with only_publisher(directory), staging(directory) as staged:
            manifest = _write_files(staged, draft, next_number(directory))
            put_in_place(directory, staged, manifest.version, activate=activate)
            return manifest


@contextmanager
def reporting(failure: str, consequence: str) -> Iterator[None]:
    """Turn what the file system and the writers of files raise into a PublicationError of one line."""
    try:
        yield
    except (OSError, SafetensorError, pa.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise PublicationError(f"{failure}: {reason}; {consequence}") from error


@contextmanager
def only_publisher(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, and remove what a killed publisher left behind: nobody can still be writing it."""
    with (directory / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_behind in directory.glob(f"{STAGING}*"):
            _remove(left_behind)
        yield


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A directory to write into, which no reader looks at. What is left there when the block fails is removed."""
    staged = directory / f"{STAGING}{secrets.token_hex(4)}"
    staged.mkdir()
    try:
        yield staged
    except BaseException:
        for left_behind in directory.glob(f"{STAGING}*"):
            _remove(left_behind)
        raise


def next_number(directory: Path) -> int:
    """One more than the last version's number. Clocks may jump; the order of publication does not."""
    return max((manifest.number for manifest in published(directory)), default=0) + 1


def put_in_place(directory: Path, staged: Path, version: str, *, activate: bool) -> None:
    """Flush what was staged, give it its name, and point CURRENT at it. The caller holds the lock."""
    _make_readable(staged)
    _flush(staged)
    activate = activate or not (directory / CURRENT).exists()
    pointer = write_pointer(directory, version) if activate else None  # now: with no room for it, nothing may appear
    staged.rename(directory / version)
    flush_directory(directory)
    if pointer is not None:
        replace_current(directory, pointer)


def write_pointer(directory: Path, version: str) -> Path:
    """A file that is ready to become CURRENT."""
    file = directory / f"{STAGING}{CURRENT}"
    try:
        file.write_text(f"{version}\n", "utf-8")
        _make_readable(file)
        _flush_file(file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file


def replace_current(directory: Path, pointer: Path) -> None:
    """Make such a file CURRENT, in one step."""
    pointer.rename(directory / CURRENT)
    flush_directory(directory)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _write_files(path: Path, draft: Draft, number: int) -> Manifest:
    _write_tensors(path / WEIGHTS, draft.model.tensors())
    if draft.relevance is not None:
        _write_tensors(path / RELEVANCE, draft.relevance.tensors())
    _write_tensors(path / FOLD_IN, FoldInPrior.learn(draft.model, draft.seen).tensors())
    seen = {"offsets": draft.seen.offsets, "items": draft.seen.items_N, "ratings": draft.seen.ratings_N}
    _write_tensors(path / SEEN, seen)
    _write_table(path / USERS, draft.users.cast(USER_SCHEMA))
    _write_table(path / ITEMS, draft.items.cast(ITEM_SCHEMA))
    tables = {"user_slots": draft.users, "item_slots": draft.items}
    slots = {name: Vocabulary(table["id"].combine_chunks()).slots for name, table in tables.items()}
    save_file({name: torch.from_numpy(slots_S) for name, slots_S in slots.items()}, path / VOCABULARY)
    users, items = (table["id"].combine_chunks() for table in (draft.users, draft.items))
    _write_table(path / GOLDEN, golden.make(draft.model, users, items, draft.scale))
    (path / "report").mkdir()
    draft.write_report(path / "report")
    created_at = datetime.now(UTC)
    manifest = Manifest(
        number=number,
        version=f"{created_at:%Y%m%dT%H%M%SZ}-{draft.trainer.preset}-{secrets.token_hex(3)}",
        created_at=created_at,
        model=ModelShape(
            users=draft.model.users,
            items=draft.model.items,
            factors=draft.model.factors,
            uncertainty=draft.model.noise_variance is not None,
            relevance_factors=None if draft.relevance is None else draft.relevance.factors,
            relevance_rule=None if draft.relevance is None else draft.relevance.rule,
            rating_min=draft.scale[0],
            rating_max=draft.scale[1],
        ),
        trainer=draft.trainer,
        data=draft.data,
        gate=draft.gate,
        metrics=draft.metrics,
        files={str(file.relative_to(path)): _entry(file) for file in sorted(path.rglob("*")) if file.is_file()},
    )
    (path / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")
    return manifest


def _entry(file: Path) -> FileEntry:
    return FileEntry(sha256=hash_file(file), bytes=file.stat().st_size)


def _make_readable(path: Path) -> None:
    """Let the service read the checkpoint under another account; some writers create files for their owner alone."""
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() else 0o644)


def _write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, file)


def _write_table(file: Path, table: pa.Table) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def _flush(path: Path) -> None:
    """Flush every file and directory below `path`, and `path` itself, to the disk."""
    for entry in path.rglob("*"):
        flush_directory(entry) if entry.is_dir() else _flush_file(entry)
    flush_directory(path)


def _flush_file(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def flush_directory(path: Path) -> None:
    """Flush the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
