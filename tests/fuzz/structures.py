"""Hostile variants that stay well-formed where plain damage would be noticed at once, the same in every run.

A document keeps its syntax, a safetensors file the length of its header, a table its encoding; what they say is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import numpy as tensors

from tests.fuzz.mutations import EXTREMES

NESTED = "[" * 500 + "]" * 500
HOSTILE = (
    "null", "true", "-1", "0.5", "1e30", "1e308", "NaN", "Infinity", '""', f'"{"x" * 9_000}"', '"\\u0000"',
    '"\\ud800"', '"../../etc/passwd"', '"F64"', '"2026-13-45T99:99:99Z"', "[]", "{}", "[-1, 9223372036854775808]",
    "[0, 1099511627776]", NESTED, f'{{"": {{"": {NESTED}}}}}', "9" * 30, *map(str, EXTREMES),
)  # fmt: skip
OTHER_TYPES = (
    pa.large_string(),
    pa.binary(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.list_(pa.string()),
)


def documents(valid: bytes, count: int, seed: int) -> Iterator[bytes]:
    """JSON in which one to three members or elements are replaced by others, removed or renamed."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        document = json.loads(valid)
        for _ in range(1 + int(rng.integers(3))):
            _change(document, rng)
        yield json.dumps(document).encode()


def headers(valid: bytes, count: int, seed: int) -> Iterator[bytes]:
    """safetensors files whose header is changed so: other types, shapes and offsets, tensors that overlap."""
    end = 8 + int.from_bytes(valid[:8], "little")
    for header in documents(valid[8:end], count, seed):
        yield len(header).to_bytes(8, "little") + header + valid[end:]


def values(valid: bytes, count: int, seed: int) -> Iterator[bytes]:
    """safetensors files with one tensor of other values: such as hash tables that a lookup might never leave."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        found = tensors.load(valid)
        name = sorted(found)[int(rng.integers(len(found)))]
        found[name] = np.ascontiguousarray(_VALUES[number % len(_VALUES)](found[name], rng))
        yield tensors.save(found)


def tables(valid: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Arrow files with other rows, columns, types, batches or compression."""
    rng = np.random.default_rng(seed)
    table = pa.ipc.open_file(valid).read_all()
    for number in range(count):
        changed = _TABLES[number % len(_TABLES)](table, rng)
        sink, codec = pa.BufferOutputStream(), (None, None, None, "lz4", "zstd")[int(rng.integers(5))]
        with pa.ipc.new_file(sink, changed.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
            writer.write_table(changed, max_chunksize=max(1, int(rng.integers(len(changed) + 2))))
        yield sink.getvalue().to_pybytes()


def bomb(valid: bytes) -> bytes:
    """An Arrow file of the same columns, small, whose first column takes 128 MB where it is decompressed."""
    table = pa.ipc.open_file(valid).read_all().slice(0, 1)
    table = table.set_column(0, table.schema.field(0), pa.array(["x" * (128 << 20)]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _change(document: Any, rng: np.random.Generator) -> None:
    """Walk down to some member and change it."""
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(document[key], dict | list) or rng.integers(4) == 0:
            break
        document = document[key]
    kind = int(rng.integers(8))
    if kind == 0:
        del document[key]
    elif kind == 1 and isinstance(document, dict):
        document[f"{key}x"] = document.pop(key)
    elif kind == 2:
        document[key] = document[keys[int(rng.integers(len(keys)))]]
    else:
        document[key] = json.loads(HOSTILE[int(rng.integers(len(HOSTILE)))])


def _extreme(values: Any, rng: np.random.Generator) -> Any:
    changed = values.copy().reshape(-1)
    limit = np.iinfo if values.dtype.kind == "i" else np.finfo
    changed[rng.integers(len(changed))] = (limit(values.dtype).max, limit(values.dtype).min, -1)[int(rng.integers(3))]
    return changed.reshape(values.shape)


def _shuffled(values: Any, rng: np.random.Generator) -> Any:
    return rng.permutation(values.reshape(-1)).reshape(values.shape)


_VALUES: tuple[Callable[[Any, np.random.Generator], Any], ...] = (
    _shuffled,
    _extreme,
    lambda values, rng: np.full_like(values, int(rng.integers(-1, 4))),
    lambda values, _: np.roll(values, 1),
    lambda values, _: np.sort(values.reshape(-1)).reshape(values.shape),
    lambda values, rng: values.reshape(-1)[: int(rng.integers(values.size + 1))],
    lambda values, _: np.tile(values, 2),
    lambda values, _: values.reshape((1, *values.shape)),
    lambda values, rng: values.astype((np.float64, np.int8, np.float16, np.uint32)[int(rng.integers(4))]),
    lambda values, _: values * 0 if values.dtype.kind == "i" else values * np.float32("nan"),
)


def _with_column(table: pa.Table, rng: np.random.Generator, change: Callable[[Any], Any]) -> pa.Table:
    at = int(rng.integers(table.num_columns))
    name = table.column_names[at]
    return table.set_column(at, name, pa.array(change(table[name].to_pylist())))


_TABLES: tuple[Callable[[pa.Table, np.random.Generator], pa.Table], ...] = (
    lambda table, rng: table.take(rng.permutation(len(table))),
    lambda table, rng: table.take(rng.integers(len(table), size=len(table))),
    lambda table, rng: table.slice(int(rng.integers(len(table) + 1))),
    lambda table, _: pa.concat_tables([table, table]),
    lambda table, rng: table.drop_columns([table.column_names[int(rng.integers(table.num_columns))]]),
    lambda table, _: table.append_column("more", pa.nulls(len(table))),
    lambda table, _: table.rename_columns(["id"] * table.num_columns),
    lambda table, _: pa.table(
        table.columns, pa.schema([field.with_nullable(not field.nullable) for field in table.schema])
    ),
    lambda table, rng: _with_column(table, rng, lambda rows: [None, *rows[1:]]),
    lambda table, rng: _with_column(table, rng, lambda rows: rows[::-1]),
    lambda table, rng: _with_column(table, rng, lambda rows: [f"{row}\0" for row in rows]),
    lambda table, rng: table.set_column(
        0, table.column_names[0], pa.nulls(len(table), OTHER_TYPES[int(rng.integers(len(OTHER_TYPES)))])
    ),
    lambda table, _: table.replace_schema_metadata({b"\xff": bytes(100)}),
)
