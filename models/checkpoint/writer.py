"""Writes the files of a checkpoint into a directory. It does not know who will read it there, or when."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import files, golden
from models.checkpoint.manifest import DataRecord, FileEntry, GateRecord, Manifest, ModelShape, TrainerRecord
from models.checkpoint.vocabulary import Vocabulary
from models.fold_in import FoldInPrior
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A model about to be published."""

    model: MatrixFactorization  # its tables, finite, on any device
    users: pa.Table  # `files.USER_SCHEMA`, U rows
    items: pa.Table  # `files.ITEM_SCHEMA`, I rows; `ratings` counts what `seen` holds of each
    seen: TrainingRatings  # the training ratings of each user, within the scale
    prior: FoldInPrior  # the prior of users and items without training ratings
    scale: tuple[float, float]  # the lowest and the highest rating of the data
    trainer: TrainerRecord
    data: DataRecord
    gate: GateRecord
    metrics: Mapping[str, float | None]
    write_report: Callable[[Path], None]  # writes files into the directory it is given; they become `report/`
    relevance: RelevanceHead | None = None  # orders lists, finite, on any device; None if lists are ordered by r̂


def write(path: Path, draft: Draft, number: int) -> Manifest:
    """Write all files of a draft into the empty directory `path`, under a new version name, and return its manifest."""
    users, items = (table["id"].combine_chunks() for table in (draft.users, draft.items))
    slots = {"user_slots": Vocabulary(users).slots, "item_slots": Vocabulary(items).slots}
    seen = {"offsets": draft.seen.offsets, "items": draft.seen.items_N, "ratings": draft.seen.ratings_N}
    _write_tensors(path / files.WEIGHTS, draft.model.tensors())
    if draft.relevance is not None:
        _write_tensors(path / files.RELEVANCE, draft.relevance.tensors())
    _write_tensors(path / files.FOLD_IN, draft.prior.tensors())
    _write_tensors(path / files.SEEN, seen)
    _write_tensors(path / files.VOCABULARY, {name: torch.from_numpy(slots_S) for name, slots_S in slots.items()})
    write_table(path / files.USERS, draft.users.cast(files.USER_SCHEMA))
    write_table(path / files.ITEMS, draft.items.cast(files.ITEM_SCHEMA))
    write_table(path / files.GOLDEN, golden.make(draft.model, users, items, draft.scale))
    (path / files.REPORT).mkdir()
    draft.write_report(path / files.REPORT)
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
    (path / files.MANIFEST).write_bytes(manifest.to_json())
    return manifest


def _entry(file: Path) -> FileEntry:
    return FileEntry(sha256=files.hash_file(file), bytes=file.stat().st_size)


def _write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, file)


def write_table(file: Path, table: pa.Table) -> None:
    """Write a table as the reader maps it: one record batch, not compressed."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
