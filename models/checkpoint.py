"""Reading a checkpoint: verify everything, then trust it. Specified in `docs/checkpoint-format.md`.

Weights and seen items are mapped from their files, so that processes on one machine share one copy of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.errors import CheckpointCorruptError, CheckpointFormatError, CheckpointNotFoundError
from models.manifest import FORMAT_VERSION, VERSION_NAME, FileEntry, Manifest, ModelShape
from models.mf import VARIANCES, MatrixFactorization
from models.relevance import RelevanceHead
from models.seen import SeenItems
from models.vocabulary import Vocabulary

CURRENT, MANIFEST = "CURRENT", "manifest.json"
WEIGHTS, SEEN, USERS, ITEMS = "weights.safetensors", "seen.safetensors", "users.arrow", "items.arrow"
RELEVANCE = "relevance.safetensors"
REQUIRED_FILES = (WEIGHTS, SEEN, USERS, ITEMS)
MAX_MANIFEST_BYTES = 1 << 20  # a real one is below 4 kB
ITEM_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "title": pa.string(),
        "year": pa.int32(),
        "genres": pa.list_(pa.string()),
        "mean_rating": pa.float32(),
    }
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
        seen: the training items of each user.
        relevance: what orders lists, None where only r̂ does.
    """

    manifest: Manifest
    model: MatrixFactorization
    users: Vocabulary
    items: Vocabulary
    catalogue: pa.Table
    seen: SeenItems
    relevance: RelevanceHead | None

    @property
    def version(self) -> str:
        return self.manifest.version


def versions(directory: Path) -> list[str]:
    """Names of the published versions, in alphabetical order: that of publication, for those of different seconds."""
    if not directory.is_dir():
        return []
    return sorted(
        path.parent.name for path in directory.glob(f"*/{MANIFEST}") if VERSION_NAME.fullmatch(path.parent.name)
    )


def current_version(directory: Path) -> str:
    """The version that `CURRENT` names. Raises CheckpointNotFoundError where nothing has been published."""
    try:
        name = (directory / CURRENT).read_text("utf-8").strip()
    except FileNotFoundError:
        raise CheckpointNotFoundError(f"no checkpoint has been published in {directory}") from None
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
        raise CheckpointNotFoundError(f"no version {name!r} in {directory}")
    manifest = read_manifest(path)
    for name in dict.fromkeys((*_required_files(path, manifest), *manifest.files)):
        _verify_file(path, name, manifest.files.get(name))
    model = _read_model(path, manifest.model)
    relevance = _read_relevance(path, manifest.model)
    users = _read_table(path / USERS, USER_SCHEMA, manifest.model.users)
    items = _read_table(path / ITEMS, ITEM_SCHEMA, manifest.model.items)
    return Checkpoint(
        manifest=manifest,
        model=model.to(device),
        users=_vocabulary(path / USERS, users),
        items=_vocabulary(path / ITEMS, items),
        catalogue=items,
        seen=_read_seen(path, manifest.model).to(torch.device(device)),
        relevance=None if relevance is None else relevance.to(device),
    )


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the checkpoint at `path`, without looking at its other files."""
    file = path / MANIFEST
    if not file.is_file() or file.is_symlink():
        raise CheckpointCorruptError(f"{file} is missing or not a plain file")
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise CheckpointCorruptError(f"{file} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"{file} is not JSON: {error}") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointFormatError(f"{file} has format version {found!r}; this release reads {FORMAT_VERSION}")
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointCorruptError(f"{file} is not a manifest: {where}: {first['msg']}") from error
    if manifest.version != path.name:
        raise CheckpointCorruptError(f"{file} belongs to version {manifest.version!r}")
    return manifest


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


def _verify_file(path: Path, name: str, entry: FileEntry | None) -> None:
    file = path / name
    if entry is None:
        _corrupt(file, "the manifest does not list it")
    if not file.is_file() or file.is_symlink() or file.parent.is_symlink():
        _corrupt(file, "missing or not a plain file")
    if file.stat().st_size != entry.bytes:
        _corrupt(file, f"{file.stat().st_size} bytes, the manifest says {entry.bytes}")
    if hash_file(file) != entry.sha256:
        _corrupt(file, "its content does not match the sha256 in the manifest")


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
    return tensors


def _read_model(path: Path, shape: ModelShape) -> MatrixFactorization:
    tensors = _read_tables(path / WEIGHTS, tensor_shapes(shape))
    for name, tensor in tensors.items():
        if name in VARIANCES and (tensor < 0).any():
            _corrupt(path / WEIGHTS, f"tensor {name} holds negative variances")
    return MatrixFactorization(**tensors)


def _read_relevance(path: Path, shape: ModelShape) -> RelevanceHead | None:
    shapes = relevance_shapes(shape)
    return RelevanceHead(**_read_tables(path / RELEVANCE, shapes)) if shapes else None


def _read_tables(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Map float32 tensors of exactly these shapes, all values finite."""
    tensors = _read_tensors(file, {name: (torch.float32, wanted) for name, wanted in shapes.items()})
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            _corrupt(file, f"tensor {name} holds values that are not finite")
    return tensors


def _read_seen(path: Path, shape: ModelShape) -> SeenItems:
    file = path / SEEN
    expected = {"offsets": (torch.int64, (shape.users + 2,)), "items": (torch.int32, None)}
    tensors = _read_tensors(file, expected)
    offsets, items_N = tensors["offsets"], tensors["items"]
    if offsets[0] != 0 or offsets[-1] != items_N.numel() or (offsets.diff() < 0).any() or items_N.dim() != 1:
        _corrupt(file, "tensor offsets does not partition tensor items")
    if offsets[-2] != offsets[-1]:
        _corrupt(file, "tensor offsets gives items to the row for unknown users")
    if items_N.numel() and not 0 <= int(items_N.min()) <= int(items_N.max()) < shape.items:
        _corrupt(file, "tensor items names an item that does not exist")
    return SeenItems(offsets, items_N)


def _read_table(file: Path, schema: pa.Schema, rows: int) -> pa.Table:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        if not reader.schema.equals(schema):
            _corrupt(file, f"has the columns {reader.schema.names}, wanted {schema.names} with their types")
        table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CheckpointCorruptError(f"{file}: not an Arrow file: {error}") from error
    if table.num_rows != rows:
        _corrupt(file, f"{table.num_rows} rows, the manifest says {rows}")
    return table


def _vocabulary(file: Path, table: pa.Table) -> Vocabulary:
    try:
        return Vocabulary(table["id"].combine_chunks())
    except ValueError as error:
        raise CheckpointCorruptError(f"{file}: {error}") from error
