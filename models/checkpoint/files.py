"""The files of a checkpoint: names, schemas, shapes and sizes, and how to map a file that is exactly as expected.

Specified in `docs/checkpoint-format.md`. `known` says that the process has verified the same file before.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint.arrow_messages import refuse_compressed
from models.checkpoint.manifest import FileEntry, ModelShape
from models.errors import CheckpointCorruptError

MANIFEST, GOLDEN, VOCABULARY = "manifest.json", "golden.arrow", "vocabulary.safetensors"
WEIGHTS, SEEN, USERS, ITEMS = "weights.safetensors", "seen.safetensors", "users.arrow", "items.arrow"
FOLD_IN, RELEVANCE = "fold_in.safetensors", "relevance.safetensors"
REQUIRED_FILES = (WEIGHTS, FOLD_IN, SEEN, VOCABULARY, USERS, ITEMS, GOLDEN)
REPORT, REPORT_PAGE, HISTORY, HELD_OUT = "report", "index.html", "history.json", "held_out.arrow"
MAX_POINTER_BYTES = 256  # of a file that names a version; a name has at most 128
MAX_MANIFEST_BYTES = 1 << 20  # a real one is below 4 kB
MAX_REPORT_BYTES = 16 << 20  # of one file of a report
MOST_GOLDEN_PAIRS = 64
LARGEST = 1e15  # of any value: then no dot product of fewer than 10⁸ factors overflows, and no prediction is NaN
USER_SCHEMA = pa.schema({"id": pa.string()})
ITEM_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("mean_rating", pa.float32()),
        pa.field("ratings", pa.int32(), nullable=False),
    ]
)
GOLDEN_SCHEMA = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),
    ]
)
HELD_OUT_SCHEMA = pa.schema([*GOLDEN_SCHEMA, pa.field("predicted", pa.float32(), nullable=False)])
ARROW_MAGIC = b"ARROW1\0\0"


def read_small(file: Path, most: int) -> bytes:
    """The content of a plain file of at most `most` bytes. A pipe in its place is not waited for.

    Raises OSError, or CheckpointCorruptError for anything else than such a file.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            corrupt(file, "not a plain file")
        content = stream.read(most + 1)
    if len(content) > most:
        corrupt(file, f"larger than {most} bytes")
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
        shapes |= {
            "noise_variance": (),
            "user_variance": (rows_U,),
            "item_variance": (rows_I,),
            "interval_deviations": (2,),
        }
    return shapes


def corrupt(file: Path | str, reason: str) -> NoReturn:
    """Raise CheckpointCorruptError for a file."""
    raise CheckpointCorruptError(f"{file}: {reason}")


def verify_presence(file: Path, entry: FileEntry | None) -> None:
    """Refuse a file that is missing, not a plain file, or of another size than the manifest says."""
    if entry is None:
        corrupt(file, "the manifest does not list it")
    if not file.is_file() or file.is_symlink() or file.parent.is_symlink():
        corrupt(file, "missing or not a plain file")
    verify_size(file, file.stat().st_size, entry)


def verify_size(file: Path | str, size: int, entry: FileEntry) -> None:
    """Refuse a file of another size than the manifest says; `file` is its name in messages."""
    if size != entry.bytes:
        corrupt(file, f"{size} bytes, the manifest says {entry.bytes}")


def verify_hash(file: Path | str, sha256: str, entry: FileEntry) -> None:
    """Refuse a file with another hash than the manifest says; `file` is its name in messages."""
    if sha256 != entry.sha256:
        corrupt(file, "its content does not match the sha256 in the manifest")


def read_tensors(file: Path, expected: Mapping[str, tuple[torch.dtype, tuple[int, ...] | None]]) -> dict[str, Tensor]:
    """Map the tensors of a file that holds exactly the expected ones. A shape of None is left to the caller."""
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointCorruptError(f"{file}: not a safetensors file: {error}") from error
    if tensors.keys() != expected.keys():
        corrupt(file, f"has the tensors {sorted(tensors)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype:
            corrupt(file, f"tensor {name} is {tensor.dtype}, expected {dtype}")
        if shape is not None and tensor.shape != shape:
            corrupt(file, f"tensor {name} has shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.data_ptr() % tensor.element_size():
            corrupt(file, f"tensor {name} begins at a byte that is not a multiple of the size of its numbers")
    return tensors


def read_tables(file: Path, shapes: Mapping[str, tuple[int, ...]], *, known: bool) -> dict[str, Tensor]:
    """Map float32 tensors of exactly these shapes, no value beyond `LARGEST`."""
    tensors = read_tensors(file, {name: (torch.float32, wanted) for name, wanted in shapes.items()})
    for name, tensor in () if known else tensors.items():
        if tensor.numel() == 0:
            continue
        low, high = tensor.aminmax()  # both are NaN if any value is; unlike isfinite, this needs no table of its own
        if not (low >= -LARGEST and high <= LARGEST):
            corrupt(file, f"tensor {name} has values that are not finite, or beyond ±{LARGEST:g}")
    return tensors


def read_arrow(file: Path, schema: pa.Schema, *, known: bool) -> pa.Table:
    """Map a table. The file is read as the stream in it, so that Arrow reads the messages that were checked."""
    try:
        content = pa.memory_map(str(file)).read_buffer()
        if content[: len(ARROW_MAGIC)].to_pybytes() != ARROW_MAGIC:
            corrupt(file, "not an Arrow file")
        stream = content[len(ARROW_MAGIC) :]
        refuse_compressed(stream)
        reader = pa.ipc.open_stream(stream)
        if not reader.schema.equals(schema):
            corrupt(file, f"has the columns {reader.schema.names}, expected {schema.names} with their types")
        table = reader.read_all()
        table.validate(full=not known)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CheckpointCorruptError(f"{file}: not an Arrow file: {error}") from error
    return table
