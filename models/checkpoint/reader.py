"""Reading a checkpoint: verify everything, then trust it. Specified in `docs/checkpoint-format.md`.

Everything large is mapped from its file, so that processes on one machine share one copy of it. What a process has
verified it does not verify again while the files are the same (`models/checkpoint/verification_cache.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint import golden, verification_cache
from models.checkpoint.arrow_messages import refuse_compressed
from models.checkpoint.manifest import FORMAT_VERSION, VERSION_NAME, FileEntry, Manifest, ModelShape
from models.checkpoint.vocabulary import IdsError, Vocabulary
from models.did_you_mean import did_you_mean
from models.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointFormatError,
    CheckpointNotFoundError,
    ReportNotFoundError,
)
from models.fold_in_prior import LEAST_NOISE, FoldInPrior
from models.mf import VARIANCES, MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings

CURRENT, MANIFEST = "CURRENT", "manifest.json"
WEIGHTS, SEEN, USERS, ITEMS = "weights.safetensors", "seen.safetensors", "users.arrow", "items.arrow"
GOLDEN = "golden.arrow"
FOLD_IN = "fold_in.safetensors"
RELEVANCE = "relevance.safetensors"
VOCABULARY = "vocabulary.safetensors"
REQUIRED_FILES = (WEIGHTS, FOLD_IN, SEEN, VOCABULARY, USERS, ITEMS, GOLDEN)
REPORT, REPORT_PAGE, HISTORY = "report", "index.html", "history.json"
MAX_MANIFEST_BYTES = 1 << 20  # a real one is below 4 kB
MAX_REPORT_BYTES = 16 << 20  # of one file of a report
ARROW_MAGIC = b"ARROW1\0\0"
LARGEST = 1e15  # of any value: then no dot product of fewer than 10⁸ factors overflows, and no prediction is NaN
HASHING_THREADS = 4  # one file takes more than half of the time, whatever their number
ITEM_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("mean_rating", pa.float32()),
        pa.field("ratings", pa.int32(), nullable=False),
    ]
)
USER_SCHEMA = pa.schema({"id": pa.string()})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint, its tables on one device.

    Attributes:
        manifest: everything known about the model.
        model: the tables of the served form.
        users: user ids; row u of the user tables belongs to the u-th.
        items: item ids; row i of the item tables belongs to the i-th.
        catalogue: `ITEM_SCHEMA`, one row an item.
        seen: the training ratings of each user.
        priors: what is known of users and items without training ratings.
        relevance: what orders lists, None where only r̂ does.
        golden: pairs and the ratings that they must get, `golden.SCHEMA`.
    """

    manifest: Manifest
    model: MatrixFactorization
    users: Vocabulary
    items: Vocabulary
    catalogue: pa.Table
    seen: TrainingRatings
    priors: FoldInPrior
    relevance: RelevanceHead | None
    golden: pa.Table

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def ratings_I(self) -> npt.NDArray[np.int32]:
        """Training ratings of each item, mapped and read-only, shape (I,)."""
        counts_I: npt.NDArray[np.int32] = _whole(self.catalogue["ratings"]).to_numpy()
        return counts_I


def versions(directory: Path) -> list[str]:
    """Names of the published versions, readable or not, in alphabetical order."""
    if not directory.is_dir():
        return []
    return sorted(
        path.parent.name for path in directory.glob(f"*/{MANIFEST}") if VERSION_NAME.fullmatch(path.parent.name)
    )


def published(directory: Path) -> list[Manifest]:
    """What is known about each version whose manifest can be read, in the order in which they were published."""
    found = []
    for version in versions(directory):
        with suppress(CheckpointError, OSError):
            found.append(read_manifest(directory / version))
    return sorted(found, key=lambda manifest: (manifest.number, manifest.created_at))


def current_version(directory: Path) -> str:
    """The version that `CURRENT` names. Raises CheckpointNotFoundError where nothing has been published."""
    try:
        name = (directory / CURRENT).read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        example = f"python -m training fit --data ml-100k --split random:0.1 --preset bayes --out {directory}"
        raise CheckpointNotFoundError(
            f"no checkpoint has been published in {directory}; this makes one: {example}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(f"{directory / CURRENT} cannot be read: {error}") from error
    if not VERSION_NAME.fullmatch(name):
        raise CheckpointCorruptError(f"{directory / CURRENT} does not hold the name of a version")
    return name


def load(directory: Path, version: str | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Read and verify one version, by default the current one, and put its tables on `device`.

    Raises:
        CheckpointNotFoundError: there is no such version.
        CheckpointFormatError: it is of a format that this release does not read.
        CheckpointCorruptError: it is not what its manifest says. The message names the file or the tensor.
    """
    name = current_version(directory) if version is None else version
    path = directory / name
    if not VERSION_NAME.fullmatch(name) or not path.is_dir():
        raise CheckpointNotFoundError(f"no version {name!r} in {directory}{did_you_mean(name, versions(directory))}")
    manifest = read_manifest(path)
    stamp = _verify_files(path, manifest)
    known = verification_cache.knows(stamp)
    model = _read_model(path, manifest.model, known=known)
    relevance = _read_relevance(path, manifest.model, known=known)
    seen = _read_seen(path, manifest.model, known=known)
    users = _read_table(path / USERS, USER_SCHEMA, manifest.model.users, known=known)
    items = _read_table(path / ITEMS, ITEM_SCHEMA, manifest.model.items, known=known)
    _verify_counts(path / ITEMS, items, len(seen.items_N))
    user_slots, item_slots = _read_slots(path)
    loaded = Checkpoint(
        manifest=manifest,
        model=model.to(device),
        users=_vocabulary(path, USERS, users, user_slots, known=known),
        items=_vocabulary(path, ITEMS, items, item_slots, known=known),
        catalogue=items,
        seen=seen.to(torch.device(device)),
        priors=_read_priors(path, manifest.model, known=known).to(device),
        relevance=None if relevance is None else relevance.to(device),
        golden=_read_golden(path / GOLDEN, manifest.model),
    )
    verification_cache.remember(stamp)
    return loaded


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the checkpoint at `path`, without looking at its other files."""
    file = path / MANIFEST
    if not file.is_file() or file.is_symlink():
        raise CheckpointCorruptError(f"{file} is missing or not a plain file")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise CheckpointCorruptError(f"{file} is larger than {MAX_MANIFEST_BYTES} bytes")
    return parse_manifest(file.read_bytes(), str(file), path.name)


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


def read_report(directory: Path, version: str, name: str) -> bytes:
    """A file of a version's report, as it was published.

    Raises:
        CheckpointNotFoundError: there is no such version.
        ReportNotFoundError: its manifest lists no such file, or one of more than `MAX_REPORT_BYTES`.
        CheckpointFormatError, CheckpointCorruptError: the version, or the file, is not what it should be.
    """
    path = directory / version
    if not VERSION_NAME.fullmatch(version) or not path.is_dir():
        raise CheckpointNotFoundError(f"no version {version!r} in {directory}")
    listed = f"{REPORT}/{name}"
    entry = read_manifest(path).files.get(listed)
    if entry is None or entry.bytes > MAX_REPORT_BYTES:
        raise ReportNotFoundError(f"version {version} has no {listed}")
    _verify_presence(path / listed, entry)
    content = (path / listed).read_bytes()
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        _corrupt(path / listed, "its content does not match the sha256 in the manifest")
    return content


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tensor_shapes(shape: ModelShape) -> Mapping[str, tuple[int, ...]]:
    """Shape of each tensor in `weights.safetensors`, all float32."""
    rows_U, rows_I = shape.users + 1, shape.items + 1
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (),
        "user_factors": (rows_U, shape.factors),
        "item_factors": (rows_I, shape.factors),
        "user_bias": (rows_U,),
        "item_bias": (rows_I,),
    }
    if shape.uncertainty:
        shapes |= {"noise_variance": (), "user_variance": (rows_U,), "item_variance": (rows_I,)}
    return shapes


def relevance_shapes(shape: ModelShape) -> Mapping[str, tuple[int, ...]]:
    """Shape of each tensor in `relevance.safetensors`, all float32; none where there is no head."""
    if shape.relevance_factors is None:
        return {}
    return {
        "user_factors": (shape.users + 1, shape.relevance_factors),
        "item_factors": (shape.items + 1, shape.relevance_factors),
    }


def _corrupt(file: Path, reason: str) -> NoReturn:
    raise CheckpointCorruptError(f"{file}: {reason}")


def _required_files(path: Path, manifest: Manifest) -> tuple[str, ...]:
    if manifest.model.relevance_factors is not None:
        return (*REQUIRED_FILES, RELEVANCE)
    if RELEVANCE in manifest.files or os.path.lexists(path / RELEVANCE):
        _corrupt(path / RELEVANCE, "not expected: the manifest says that there is no relevance head")
    return REQUIRED_FILES


def _verify_files(path: Path, manifest: Manifest) -> verification_cache.Stamp:
    """Refuse files that are not what the manifest lists. Their content is read only where it is not known already."""
    files = [path / MANIFEST]
    for name in dict.fromkeys((*_required_files(path, manifest), *manifest.files)):
        _verify_presence(path / name, manifest.files.get(name))
        files.append(path / name)
    stamp = verification_cache.stamp(files)
    if not verification_cache.knows(stamp):
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            hashes = pool.map(hash_file, [path / name for name in manifest.files])
            for (name, entry), found in zip(manifest.files.items(), hashes, strict=True):
                if found != entry.sha256:
                    _corrupt(path / name, "its content does not match the sha256 in the manifest")
    return stamp


def _verify_presence(file: Path, entry: FileEntry | None) -> None:
    if entry is None:
        _corrupt(file, "the manifest does not list it")
    if not file.is_file() or file.is_symlink() or file.parent.is_symlink():
        _corrupt(file, "missing or not a plain file")
    if file.stat().st_size != entry.bytes:
        _corrupt(file, f"{file.stat().st_size} bytes, the manifest says {entry.bytes}")


def _read_tensors(file: Path, expected: Mapping[str, tuple[torch.dtype, tuple[int, ...] | None]]) -> dict[str, Tensor]:
    """Map the tensors of a file that holds exactly the expected ones. A shape of None is left to the caller."""
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointCorruptError(f"{file}: not a safetensors file: {error}") from error
    if tensors.keys() != expected.keys():
        _corrupt(file, f"holds the tensors {sorted(tensors)}, wanted {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype:
            _corrupt(file, f"tensor {name} is {tensor.dtype}, wanted {dtype}")
        if shape is not None and tensor.shape != shape:
            _corrupt(file, f"tensor {name} has shape {tuple(tensor.shape)}, wanted {shape}")
        if tensor.data_ptr() % tensor.element_size():
            _corrupt(file, f"tensor {name} begins at a byte that is no multiple of the size of its numbers")
    return tensors


def _read_model(path: Path, shape: ModelShape, *, known: bool) -> MatrixFactorization:
    tensors = _read_tables(path / WEIGHTS, tensor_shapes(shape), known=known)
    for name in () if known else VARIANCES:
        if name in tensors and (tensors[name] < 0).any():
            _corrupt(path / WEIGHTS, f"tensor {name} holds negative variances")
    return MatrixFactorization(**tensors)


def _read_relevance(path: Path, shape: ModelShape, *, known: bool) -> RelevanceHead | None:
    shapes = relevance_shapes(shape)
    if shape.relevance_rule is None:
        return None
    return RelevanceHead(**_read_tables(path / RELEVANCE, shapes, known=known), rule=shape.relevance_rule)


def _read_priors(path: Path, shape: ModelShape, *, known: bool) -> FoldInPrior:
    file, width = path / FOLD_IN, shape.factors + 1
    square = (width, width)
    tables = _read_tables(file, {"noise": (), "user_covariance": square, "item_covariance": square}, known=known)
    if not known:
        if tables["noise"] < np.float32(LEAST_NOISE):
            _corrupt(file, f"tensor noise is below {LEAST_NOISE:g}")
        for name in ("user_covariance", "item_covariance"):
            table = tables[name]
            if not torch.equal(table, table.T) or (table.diagonal() < 0).any():
                _corrupt(file, f"tensor {name} is not symmetric, or has negative variances")
    return FoldInPrior(tables["noise"], tables["user_covariance"], tables["item_covariance"])


def _read_tables(file: Path, shapes: Mapping[str, tuple[int, ...]], *, known: bool) -> dict[str, Tensor]:
    """Map float32 tensors of exactly these shapes, no value beyond `LARGEST`."""
    tensors = _read_tensors(file, {name: (torch.float32, wanted) for name, wanted in shapes.items()})
    for name, tensor in () if known else tensors.items():
        if tensor.numel() == 0:
            continue
        low, high = tensor.aminmax()  # both NaN if any value is; unlike isfinite, it makes no table of its own
        if not (low >= -LARGEST and high <= LARGEST):
            _corrupt(file, f"tensor {name} holds values that are not finite, or beyond ±{LARGEST:g}")
    return tensors


def _read_seen(path: Path, shape: ModelShape, *, known: bool) -> TrainingRatings:
    file = path / SEEN
    expected = {
        "offsets": (torch.int64, (shape.users + 2,)),
        "items": (torch.int32, None),
        "ratings": (torch.float32, None),
    }
    tensors = _read_tensors(file, expected)
    offsets, items_N, ratings_N = tensors["offsets"], tensors["items"], tensors["ratings"]
    if known:
        return TrainingRatings(offsets, items_N, ratings_N)
    if offsets[0] != 0 or offsets[-1] != items_N.numel() or (offsets.diff() < 0).any() or items_N.dim() != 1:
        _corrupt(file, "tensor offsets does not partition tensor items")
    if offsets[-2] != offsets[-1]:
        _corrupt(file, "tensor offsets gives items to the row for unknown users")
    if items_N.numel():
        low, high = items_N.aminmax()
        if low < 0 or high >= shape.items:
            _corrupt(file, "tensor items names an item that does not exist")
    if ratings_N.shape != items_N.shape:
        _corrupt(file, "tensor ratings is not one rating for each item")
    if ratings_N.numel():
        low, high = ratings_N.aminmax()
        if not (low >= np.float32(shape.rating_min) and high <= np.float32(shape.rating_max)):
            _corrupt(file, "tensor ratings holds what is not on the scale")
    return TrainingRatings(offsets, items_N, ratings_N)


def _read_slots(path: Path) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    tensors = _read_tensors(path / VOCABULARY, dict.fromkeys(("user_slots", "item_slots"), (torch.int32, None)))
    return tensors["user_slots"].numpy(), tensors["item_slots"].numpy()


def _read_golden(file: Path, shape: ModelShape) -> pa.Table:
    table = _read_arrow(file, golden.SCHEMA, known=False)
    if not 1 <= table.num_rows <= golden.MOST or any(column.null_count for column in table.columns):
        _corrupt(file, f"wanted 1 to {golden.MOST} rows without nulls")
    ratings = table["rating"].to_numpy()
    if not ((ratings >= np.float32(shape.rating_min)) & (ratings <= np.float32(shape.rating_max))).all():
        _corrupt(file, "holds ratings that are not on the scale")
    return table


def _read_table(file: Path, schema: pa.Schema, rows: int, *, known: bool) -> pa.Table:
    table = _read_arrow(file, schema, known=known)
    if table.num_rows != rows:
        _corrupt(file, f"{table.num_rows} rows, the manifest says {rows}")
    return table


def _read_arrow(file: Path, schema: pa.Schema, *, known: bool) -> pa.Table:
    """Map a table. The file is read as the stream that it holds: what was looked at is then what is read."""
    try:
        content = pa.memory_map(str(file)).read_buffer()
        if content[: len(ARROW_MAGIC)].to_pybytes() != ARROW_MAGIC:
            _corrupt(file, "not an Arrow file")
        stream = content[len(ARROW_MAGIC) :]
        refuse_compressed(stream)
        reader = pa.ipc.open_stream(stream)
        if not reader.schema.equals(schema):
            _corrupt(file, f"has the columns {reader.schema.names}, wanted {schema.names} with their types")
        table = reader.read_all()
        table.validate(full=not known)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CheckpointCorruptError(f"{file}: not an Arrow file: {error}") from error
    return table


def _verify_counts(file: Path, table: pa.Table, seen: int) -> None:
    counts = table["ratings"]
    if counts.null_count or pc.min(counts).as_py() < 0:
        _corrupt(file, "column ratings holds nulls or negative numbers")
    if (total := pc.sum(counts).as_py()) != seen:
        _corrupt(file, f"column ratings adds up to {total}, {SEEN} has {seen}")


def _vocabulary(path: Path, name: str, table: pa.Table, slots: npt.NDArray[np.int32], *, known: bool) -> Vocabulary:
    ids, tensor = _whole(table["id"]), {USERS: "user_slots", ITEMS: "item_slots"}[name]
    try:
        return Vocabulary(ids, slots, proven=known)
    except IdsError as error:
        _corrupt(path / name, str(error))
    except ValueError as error:
        _corrupt(path / VOCABULARY, f"tensor {tensor} does not belong to {name}: {error}")


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, which is the mapped one unless the file has several record batches."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
