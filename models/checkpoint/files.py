"""The files of a checkpoint: their names, schemas, shapes and sizes, as `docs/checkpoint-format.md` specifies them.

It neither reads nor writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from models.checkpoint.manifest import ModelShape

MANIFEST = "manifest.json"
WEIGHTS, SEEN, USERS, ITEMS = "weights.safetensors", "seen.safetensors", "users.arrow", "items.arrow"
GOLDEN = "golden.arrow"
FOLD_IN = "fold_in.safetensors"
RELEVANCE = "relevance.safetensors"
VOCABULARY = "vocabulary.safetensors"
REQUIRED_FILES = (WEIGHTS, FOLD_IN, SEEN, VOCABULARY, USERS, ITEMS, GOLDEN)
REPORT, REPORT_PAGE, HISTORY = "report", "index.html", "history.json"
MAX_MANIFEST_BYTES = 1 << 20  # a real one is below 4 kB
MAX_REPORT_BYTES = 16 << 20  # of one file of a report
LARGEST = 1e15  # of any value: then no dot product of fewer than 10⁸ factors overflows, and no prediction is NaN
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
