"""A directory of checkpoints: its versions, the one that `CURRENT` names, and every change of these.

Each change is one rename under the directory's lock, so a kill at any time leaves complete versions and a CURRENT
that names one (`docs/checkpoint-format.md`). This module does not know which service uses a version; a `Hold`
(`models.registry.hold`) says that one does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import torch
from safetensors import SafetensorError

from models.checkpoint import golden, reader, writer
from models.checkpoint.files import MANIFEST, MAX_POINTER_BYTES, read_small
from models.checkpoint.manifest import VERSION_NAME, Manifest
from models.checkpoint.reader import Checkpoint, read_manifest
from models.checkpoint.writer import Draft
from models.did_you_mean import did_you_mean
from models.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    InterruptedAfterPublication,
    PublicationError,
)
from models.registry import served
from models.registry import split as splits
from models.registry.last_fit import LAST_FIT, LastFit
from models.registry.served import SERVED
from models.registry.split import SPLIT, Split, is_of, read_or_none

CURRENT, LOCK, STAGING = "CURRENT", ".lock", ".staging-"


def versions(directory: Path) -> list[str]:
    """Names of the published versions, readable or not, in alphabetical order."""
    names = [path.parent.name for path in directory.glob(f"*/{MANIFEST}")]
    return sorted(name for name in names if VERSION_NAME.fullmatch(name))


def published(directory: Path) -> list[Manifest]:
    """The manifests that can be read, in the order in which their versions were published."""
    found = []
    for version in versions(directory):
        with suppress(CheckpointError, OSError):
            found.append(read_manifest(directory / version))
    return sorted(found, key=lambda manifest: (manifest.number, manifest.created_at))


def current_version(directory: Path) -> str:
    """The version that `CURRENT` names. Raises CheckpointNotFoundError if nothing has been published."""
    try:
        name = read_small(directory / CURRENT, MAX_POINTER_BYTES).decode().strip()
    except (FileNotFoundError, NotADirectoryError):
        example = f"ratecast fit --data ml-100k --split random:0.1 --preset bayes --out {directory}"
        raise CheckpointNotFoundError(
            f"no checkpoint has been published in {directory}; this makes one: {example}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(f"{directory / CURRENT} cannot be read: {error}") from error
    if not VERSION_NAME.fullmatch(name):
        raise CheckpointCorruptError(f"{directory / CURRENT} does not contain the name of a version")
    return name


def served_before(directory: Path) -> list[str]:
    """The versions that were served before the current one, oldest first; some may have been pruned since."""
    return served.before(_served(directory), _current_or_none(directory))


def version_path(directory: Path, version: str | None = None) -> Path:
    """The path of a version, by default the current one. Raises CheckpointNotFoundError if it does not exist."""
    name = current_version(directory) if version is None else version
    if not VERSION_NAME.fullmatch(name) or not (directory / name).is_dir():
        raise CheckpointNotFoundError(f"no version {name!r} in {directory}{did_you_mean(name, versions(directory))}")
    return directory / name


def load(directory: Path, version: str | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Read and verify a version, by default the current one. Raises as `version_path` and `reader.read`."""
    return reader.read(version_path(directory, version), device)


def read_report(directory: Path, version: str, name: str) -> bytes:
    """A file of a version's report. Raises as `version_path` and `reader.read_report`."""
    return reader.read_report(version_path(directory, version), name)


def verify(path: Path) -> None:
    """Raise a CheckpointError if the checkpoint at `path` is damaged, or does not predict its golden pairs."""
    golden.check_model(reader.read(path))


def publish(directory: Path, draft: Draft, *, activate: bool = True) -> Manifest:
    """Write `draft` as a new version in `directory`, make it the current one, and return its manifest.

    One process publishes at a time; others wait. If `activate` is false, CURRENT stays, unless there is none. Raises
    PublicationError, with nothing published and nothing left behind, when the files cannot be written (no room, no
    permission), or when a reader would refuse what was written.
    """
    with staging(directory, f"cannot publish to {directory}", "nothing was published") as staged:
        new = staged / "new"
        new.mkdir()
        manifest = writer.write(new, draft, next_number(published(directory)))
        written = new.rename(staged / manifest.version)  # readers want it to have its name
        try:
            verify(written)
        except CheckpointError as error:
            raise PublicationError(f"the model cannot be served: {error}; nothing was published") from error
        put_in_place(directory, written, manifest.version, activate=activate)
        return manifest


def copy(source: Path, directory: Path, *, current: bool = True) -> Manifest:
    """Publish a checkpoint that was made elsewhere: `source` is the directory of one version.

    Both the original and the copy are verified. Raises PublicationError, with nothing published, if the version is
    already there or cannot be written, another CheckpointError if it is damaged.
    """
    source = source.resolve()
    verify(version_path(source.parent, source.name))
    with staging(directory, f"cannot publish to {directory}", "nothing was published") as staged:
        if (directory / source.name).exists():
            raise PublicationError(f"{directory} already has a version {source.name}; nothing was published")
        copied = staged / source.name
        shutil.copytree(source, copied)
        manifest = read_manifest(copied).model_copy(update={"number": next_number(published(directory))})
        (copied / MANIFEST).write_bytes(manifest.to_json())
        verify(copied)
        put_in_place(directory, copied, source.name, activate=current)
        return manifest


def activate(directory: Path, version: str, *, back: bool = False) -> None:
    """Point CURRENT at a version, in one step, once it has been verified.

    Raises CheckpointNotFoundError, another CheckpointError if the version is damaged, or PublicationError if the
    directory cannot be written; CURRENT stays.
    """
    verify(version_path(directory, version))
    make_current(directory, version, back=back)


def make_current(directory: Path, version: str, *, back: bool = False) -> None:
    """As `activate`, of a version that the caller has verified; `back` where it was served before, and is again."""
    with reporting(f"cannot make {version} current in {directory}", "nothing was changed"), only_publisher(directory):
        if not (directory / version).is_dir():  # pruned meanwhile
            raise CheckpointNotFoundError(f"no version {version!r} in {directory}")
        _replace_current(directory, _write_pointers(directory, version, back=back))
        if is_of(read_or_none(directory), version):
            _remove_split(directory)


def set_split(directory: Path, split: Split | None) -> None:
    """Begin a split with a version that the caller has verified, or change its share; None ends it.

    Raises CheckpointNotFoundError, or PublicationError if the directory cannot be written; nothing is changed then.
    """
    with reporting(f"cannot change the split in {directory}", "nothing was changed"), only_publisher(directory):
        if split is None:
            _remove_split(directory)
            return
        if not (directory / split.version).is_dir():
            raise CheckpointNotFoundError(f"no version {split.version!r} in {directory}")
        _replace_current(directory, [_write_pointer(directory, SPLIT, splits.to_text(split))])


def note_fit(directory: Path, fit: LastFit) -> None:
    """Let LAST_FIT say how a fit ended. Raises PublicationError if the directory cannot be written."""
    with reporting(f"cannot write {LAST_FIT} in {directory}", "versions are as before"), only_publisher(directory):
        _replace_current(directory, [_write_pointer(directory, LAST_FIT, fit.to_text())])


def current_split(directory: Path) -> Split | None:
    """The split beside the current version; None if there is none. Raises as `splits.read`."""
    split = splits.read(directory)
    return None if is_of(split, _current_or_none(directory)) else split


def prune(directory: Path, keep: int) -> list[str]:
    """Delete all but the last `keep` versions, the current one, that of a split, and those with a `Hold`.

    Returns the deleted versions. A version is renamed before its files are deleted. One whose manifest cannot be read
    is left alone. Raises CheckpointError if CURRENT names no version, PublicationError if a version cannot be deleted.
    """
    with reporting(f"cannot prune {directory}", "the remaining versions are complete"), only_publisher(directory):
        old, split = superseded(published(directory), current_version(directory), keep), read_or_none(directory)
        unused = [version for version in old if not is_of(split, version)]
        return [version for version in unused if _remove_unless_held(directory, version)]


def next_number(before: Iterable[Manifest]) -> int:
    """One more than the number of the last version. Clocks may jump; the order of publication does not."""
    return max((manifest.number for manifest in before), default=0) + 1


def superseded(known: Sequence[Manifest], current: str, keep: int) -> list[str]:
    """The published versions, in their order, that are neither among the last `keep` nor current."""
    return [manifest.version for manifest in known[: len(known) - keep] if manifest.version != current]


@contextmanager
def reporting(failure: str, consequence: str) -> Iterator[None]:
    """Turn errors of the file system and of writers of files into a PublicationError of one line."""
    try:
        yield
    except (OSError, SafetensorError, pa.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise PublicationError(f"{failure}: {reason}; {consequence}") from error


@contextmanager
def only_publisher(directory: Path) -> Iterator[None]:
    """Hold the directory's lock. Staged files are deleted when a publisher fails, or by the next one after a kill."""
    with (directory / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_staged(directory)
        try:
            yield
        finally:
            _remove_staged(directory)


@contextmanager
def staging(directory: Path, failure: str, consequence: str) -> Iterator[Path]:
    """A directory to write into, which readers ignore, while the block holds the lock."""
    with reporting(failure, consequence):
        directory.mkdir(parents=True, exist_ok=True)
        with only_publisher(directory):
            staged = directory / f"{STAGING}{secrets.token_hex(4)}"
            staged.mkdir()
            yield staged


def put_in_place(directory: Path, staged: Path, version: str, *, activate: bool) -> None:
    """Flush the staged files, give the version its name, and point CURRENT at it. The caller holds the lock."""
    _make_readable(staged)
    for entry in (*staged.rglob("*"), staged):
        _flush(entry)
    activate = activate or not (directory / CURRENT).exists()
    pointers = _write_pointers(directory, version) if activate else ()  # now: with no room, nothing may appear
    with _uninterrupted(version):
        staged.rename(directory / version)
        _flush(directory)
        _replace_current(directory, pointers)


@contextmanager
def _uninterrupted(version: str) -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block. Raises InterruptedAfterPublication then."""
    if threading.current_thread() is not threading.main_thread():
        yield  # interrupts are of the main thread
        return
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts and callable(before):
        raise InterruptedAfterPublication(version)


def _served(directory: Path) -> list[str]:
    with suppress(FileNotFoundError, CheckpointCorruptError):
        return served.parse(read_small(directory / SERVED, served.MAX_BYTES).decode("utf-8", "replace"))
    return []


def _current_or_none(directory: Path) -> str | None:
    with suppress(CheckpointError):
        return current_version(directory)
    return None


def _write_pointers(directory: Path, version: str, *, back: bool = False) -> tuple[Path, Path]:
    """Files that are ready to become SERVED and CURRENT."""
    change = served.going_back if back else served.going_on
    names = change(_served(directory), _current_or_none(directory), version)
    return (
        _write_pointer(directory, SERVED, served.to_text(names)),
        _write_pointer(directory, CURRENT, f"{version}\n"),
    )


def _write_pointer(directory: Path, name: str, text: str) -> Path:
    file = directory / f"{STAGING}{name}"
    file.write_text(text, "utf-8")
    _make_readable(file)
    _flush(file)
    return file


def _remove_split(directory: Path) -> None:
    (directory / SPLIT).unlink(missing_ok=True)
    _flush(directory)


def _replace_current(directory: Path, pointers: Iterable[Path]) -> None:
    for pointer in pointers:
        pointer.rename(directory / pointer.name.removeprefix(STAGING))
    _flush(directory)


def _remove_unless_held(directory: Path, version: str) -> bool:
    descriptor = os.open(directory / version / MANIFEST, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        nameless = (directory / version).rename(directory / f"{STAGING}{version}")
        _flush(directory)
        shutil.rmtree(nameless)
        return True
    finally:
        os.close(descriptor)


def _remove_staged(directory: Path) -> None:
    for path in directory.glob(f"{STAGING}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _make_readable(path: Path) -> None:
    """Let other accounts read the checkpoint; some writers create files that only their owner can read."""
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() else 0o644)


def _flush(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
