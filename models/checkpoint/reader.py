"""Reading a checkpoint: verify everything, then trust it. Specified in `docs/checkpoint-format.md`.

Everything large is mapped from its file, so that processes on one machine share one copy of it. A process does not
verify files again that it has verified, as long as they are the same (`models/checkpoint/verification_cache.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import ValidationError
from torch import Tensor

from models.checkpoint import files, verification_cache
from models.checkpoint.files import (
    corrupt,
    read_arrow,
    read_small,
    read_tables,
    read_tensors,
    verify_hash,
    verify_presence,
)
from models.checkpoint.manifest import FORMAT_VERSION, Manifest, ModelShape
from models.checkpoint.vocabulary import IdsError, Vocabulary
from models.errors import CheckpointCorruptError, CheckpointFormatError, ReportNotFoundError
from models.fold_in import LEAST_NOISE, FoldInPrior
from models.mf import VARIANCES, MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings

HASHING_THREADS = 4  # more do not help: the largest file takes over half of the time


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint, its tables on one device."""

    manifest: Manifest  # everything known about the model
    model: MatrixFactorization  # the tables of the served form
    users: Vocabulary  # user ids; row u of the user tables belongs to the u-th
    items: Vocabulary  # item ids; row i of the item tables belongs to the i-th
    catalogue: pa.Table  # `files.ITEM_SCHEMA`, one row an item
    seen: TrainingRatings  # the training ratings of each user
    prior: FoldInPrior  # the prior of users and items without training ratings
    relevance: RelevanceHead | None  # orders lists; None if lists are ordered by r̂
    golden: pa.Table  # pairs and the ratings that they must get, `files.GOLDEN_SCHEMA`

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def ratings_I(self) -> npt.NDArray[np.int32]:
        """Training ratings of each item, mapped and read-only, shape (I,)."""
        counts_I: npt.NDArray[np.int32] = _whole(self.catalogue["ratings"]).to_numpy()
        return counts_I


def read(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read and verify the checkpoint at `path`, and put its tables on `device`.

    Raises:
        CheckpointFormatError: this release does not read its format.
        CheckpointCorruptError: it differs from its manifest. The message names the file or the tensor.
    """
    manifest = read_manifest(path)
    stamp = _verify_files(path, manifest)
    known = stamp in verification_cache.verified
    model = _read_model(path, manifest.model, known=known)
    relevance = _read_relevance(path, manifest.model, known=known)
    seen = _read_seen(path, manifest.model, known=known)
    users = _read_table(path / files.USERS, files.USER_SCHEMA, manifest.model.users, known=known)
    items = _read_table(path / files.ITEMS, files.ITEM_SCHEMA, manifest.model.items, known=known)
    _verify_counts(path / files.ITEMS, items, len(seen.items_N))
    slots = read_tensors(path / files.VOCABULARY, dict.fromkeys(("user_slots", "item_slots"), (torch.int32, None)))
    loaded = Checkpoint(
        manifest=manifest,
        model=model.to(device),
        users=_vocabulary(path / files.USERS, users, "user_slots", slots, known=known),
        items=_vocabulary(path / files.ITEMS, items, "item_slots", slots, known=known),
        catalogue=items,
        seen=seen.to(torch.device(device)),
        prior=_read_prior(path, manifest.model, known=known).to(device),
        relevance=None if relevance is None else relevance.to(device),
        golden=_read_golden(path / files.GOLDEN, manifest.model),
    )
    verification_cache.remember(stamp)
    return loaded


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the checkpoint at `path`, but not its other files."""
    file = path / files.MANIFEST
    if not file.is_file() or file.is_symlink():
        raise CheckpointCorruptError(f"{file} is missing or not a plain file")
    return parse_manifest(read_small(file, files.MAX_MANIFEST_BYTES), str(file), path.name)


def parse_manifest(text: bytes, file: str, version: str) -> Manifest:
    """The manifest of a version from the content of its file, which messages name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"{file} is not JSON: {error}") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointFormatError(f"{file} has format version {found!r}; this release reads {FORMAT_VERSION}")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointCorruptError(f"{file} is not a manifest: {where}: {first['msg']}") from error
    if manifest.version != version:
        raise CheckpointCorruptError(f"{file} belongs to version {manifest.version!r}")
    return manifest


def read_report(path: Path, name: str) -> bytes:
    """A file of the report of the checkpoint at `path`, as it was published.

    Raises:
        ReportNotFoundError: its manifest lists no such file, or one of more than `files.MAX_REPORT_BYTES`.
        CheckpointFormatError, CheckpointCorruptError: the checkpoint, or the file, is not what it should be.
    """
    listed = f"{files.REPORT}/{name}"
    entry = read_manifest(path).files.get(listed)
    if entry is None or entry.bytes > files.MAX_REPORT_BYTES:
        raise ReportNotFoundError(f"version {path.name} has no {listed}")
    verify_presence(path / listed, entry)
    content = read_small(path / listed, files.MAX_REPORT_BYTES)
    verify_hash(path / listed, hashlib.sha256(content).hexdigest(), entry)
    return content


def read_held_out(path: Path) -> pa.Table | None:
    """The held-out ratings that a version was measured by, `files.HELD_OUT_SCHEMA`; None where it has none.

    Raises as `read_report`.
    """
    listed = f"{files.REPORT}/{files.HELD_OUT}"
    if listed not in read_manifest(path).files:
        return None
    read_report(path, files.HELD_OUT)
    table = read_arrow(path / listed, files.HELD_OUT_SCHEMA, known=False)
    if any(column.null_count for column in table.columns):
        corrupt(path / listed, "holds nulls")
    return table


def _required_files(path: Path, manifest: Manifest) -> tuple[str, ...]:
    if manifest.model.relevance_factors is not None:
        return (*files.REQUIRED_FILES, files.RELEVANCE)
    if files.RELEVANCE in manifest.files or os.path.lexists(path / files.RELEVANCE):
        corrupt(path / files.RELEVANCE, "not expected: the manifest says that there is no relevance head")
    return files.REQUIRED_FILES


def _verify_files(path: Path, manifest: Manifest) -> verification_cache.Stamp:
    """Refuse files that differ from the manifest. Their content is read only if it was not verified before."""
    names = dict.fromkeys((*_required_files(path, manifest), *manifest.files))
    for name in names:
        verify_presence(path / name, manifest.files.get(name))
    stamp = verification_cache.stamp([path / name for name in (files.MANIFEST, *names)])
    if stamp not in verification_cache.verified:
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            hashes = pool.map(files.hash_file, [path / name for name in manifest.files])
            for (name, entry), found in zip(manifest.files.items(), hashes, strict=True):
                verify_hash(path / name, found, entry)
    return stamp


def _read_model(path: Path, shape: ModelShape, *, known: bool) -> MatrixFactorization:
    file = path / files.WEIGHTS
    tensors = read_tables(file, files.tensor_shapes(shape), known=known)
    for name in () if known else VARIANCES:
        if name in tensors and (tensors[name] < 0).any():
            corrupt(file, f"tensor {name} has negative variances")
    return MatrixFactorization(**tensors)


def _read_relevance(path: Path, shape: ModelShape, *, known: bool) -> RelevanceHead | None:
    if shape.relevance_rule is None or shape.relevance_factors is None:
        return None
    sizes = {"user_factors": shape.users + 1, "item_factors": shape.items + 1, "summed_factors": shape.items + 1}
    shapes = {name: (rows, shape.relevance_factors) for name, rows in sizes.items()}
    return RelevanceHead(**read_tables(path / files.RELEVANCE, shapes, known=known), rule=shape.relevance_rule)


def _read_prior(path: Path, shape: ModelShape, *, known: bool) -> FoldInPrior:
    file, width = path / files.FOLD_IN, shape.factors + 1
    covariances = dict.fromkeys(("user_covariance", "item_covariance"), (width, width))
    tables = read_tables(file, {"noise": (), **covariances}, known=known)
    if not known and tables["noise"] < np.float32(LEAST_NOISE):
        corrupt(file, f"tensor noise is below {LEAST_NOISE:g}")
    for name in () if known else covariances:
        if not torch.equal(tables[name], tables[name].T) or (tables[name].diagonal() < 0).any():
            corrupt(file, f"tensor {name} is not symmetric, or has negative variances")
    return FoldInPrior(tables["noise"], *(tables[name] for name in covariances))


def _read_seen(path: Path, shape: ModelShape, *, known: bool) -> TrainingRatings:
    file = path / files.SEEN
    of_ratings = {"items": (torch.int32, None), "ratings": (torch.float32, None)}
    tensors = read_tensors(file, {"offsets": (torch.int64, (shape.users + 2,)), **of_ratings})
    offsets, items_N, ratings_N = tensors["offsets"], tensors["items"], tensors["ratings"]
    if known:
        return TrainingRatings(offsets, items_N, ratings_N)
    if offsets[0] != 0 or offsets[-1] != items_N.numel() or (offsets.diff() < 0).any() or items_N.dim() != 1:
        corrupt(file, "tensor offsets does not partition tensor items")
    if offsets[-2] != offsets[-1]:
        corrupt(file, "tensor offsets gives items to the row for unknown users")
    if items_N.numel():
        low, high = items_N.aminmax()
        if low < 0 or high >= shape.items:
            corrupt(file, "tensor items names an item that does not exist")
    if ratings_N.shape != items_N.shape:
        corrupt(file, "tensor ratings is not one rating for each item")
    if ratings_N.numel():
        low, high = ratings_N.aminmax()
        if not (low >= np.float32(shape.rating_min) and high <= np.float32(shape.rating_max)):
            corrupt(file, "tensor ratings has values that are not on the scale")
    return TrainingRatings(offsets, items_N, ratings_N)


def _read_golden(file: Path, shape: ModelShape) -> pa.Table:
    table = read_arrow(file, files.GOLDEN_SCHEMA, known=False)
    if not 1 <= table.num_rows <= files.MOST_GOLDEN_PAIRS or any(column.null_count for column in table.columns):
        corrupt(file, f"expected 1 to {files.MOST_GOLDEN_PAIRS} rows without nulls")
    ratings = table["rating"].to_numpy()
    if not ((ratings >= np.float32(shape.rating_min)) & (ratings <= np.float32(shape.rating_max))).all():
        corrupt(file, "has ratings that are not on the scale")
    return table


def _read_table(file: Path, schema: pa.Schema, rows: int, *, known: bool) -> pa.Table:
    table = read_arrow(file, schema, known=known)
    if table.num_rows != rows:
        corrupt(file, f"{table.num_rows} rows, the manifest says {rows}")
    return table


def _verify_counts(file: Path, table: pa.Table, seen: int) -> None:
    counts = table["ratings"]
    if counts.null_count or pc.min(counts).as_py() < 0:
        corrupt(file, "column ratings has nulls or negative numbers")
    if (total := pc.sum(counts).as_py()) != seen:
        corrupt(file, f"column ratings adds up to {total}, {files.SEEN} has {seen}")


def _vocabulary(file: Path, table: pa.Table, name: str, slots: Mapping[str, Tensor], *, known: bool) -> Vocabulary:
    try:
        return Vocabulary(_whole(table["id"]), slots[name].numpy(), proven=known)
    except IdsError as error:
        corrupt(file, str(error))
    except ValueError as error:
        corrupt(file.parent / files.VOCABULARY, f"tensor {name} does not belong to {file.name}: {error}")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array: the mapped one, unless the file has several record batches."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
