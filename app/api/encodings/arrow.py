"""Arrow IPC streams: columns `user` and `item` in, `rating` and `source` out, and perhaps `low` and `high`.

A stream from a client is checked before it is used: first the headers of its messages, then its columns in full.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.engine.types import SOURCES, Pairs, Predictions
from models.checkpoint.arrow_messages import refuse_compressed
from models.ids import of_numbers, trimmed, without_zero_fractions

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
COLUMNS = ["user", "item"]
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SOURCES = pa.array([str(source) for source in SOURCES])
_SCHEMA = pa.schema({"rating": pa.float32(), "source": pa.dictionary(pa.int8(), pa.string())})
_ENDS = (pa.field("low", pa.float32()), pa.field("high", pa.float32()))


def decode(body: bytes) -> Pairs:
    """The pairs of a stream. Raises ValueError, whose message does not repeat the body."""
    if not body.endswith(END_OF_STREAM):
        raise ValueError("the Arrow stream is cut short: it lacks its end-of-stream marker")
    stream = pa.py_buffer(body)
    refuse_compressed(stream)
    try:
        with pa.ipc.open_stream(stream) as reader:
            _check_schema(reader.schema)
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"not a readable Arrow stream: {type(error).__name__}") from error
    return Pairs(*(_texts(table, name) for name in COLUMNS))


def encode_predictions(answer: Predictions) -> bytes:
    """One batch; the schema's metadata has `model_version`."""
    sources = pa.DictionaryArray.from_arrays(pa.array(answer.sources_B.astype(np.int8)), _SOURCES)
    schema, columns = _SCHEMA, [pa.array(answer.ratings_B), sources]
    if answer.intervals_2B is not None:
        schema = pa.schema([*schema, *_ENDS])
        columns += [pa.array(ends_B, from_pandas=True) for ends_B in answer.intervals_2B]  # NaN becomes null
    schema = schema.with_metadata({"model_version": answer.version})
    batch = pa.record_batch(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _check_schema(schema: pa.Schema) -> None:
    if schema.names != COLUMNS:
        raise ValueError(f"the Arrow stream holds other columns than {', '.join(COLUMNS)}")
    for name, kind in zip(COLUMNS, map(_kind, schema.types), strict=True):
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_number(kind)):
            raise ValueError(f"column {name} of the Arrow stream holds neither texts nor numbers")


def _kind(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table[name]
    dictionaries = [chunk.dictionary for chunk in column.chunks if pa.types.is_dictionary(column.type)]
    if column.null_count or any(dictionary.null_count for dictionary in dictionaries):
        raise ValueError(f"column {name} of the Arrow stream holds nulls")
    return pa.chunked_array([_clean(chunk) for chunk in column.chunks], None if column.num_chunks else pa.string())


def _clean(ids: pa.Array) -> pa.Array:
    """`models.ids.of` for an array of texts or numbers, or for the dictionary of one."""
    if pa.types.is_dictionary(ids.type):
        return pa.DictionaryArray.from_arrays(ids.indices, _clean(ids.dictionary))
    texts = of_numbers(ids) if _is_number(ids.type) else ids
    return without_zero_fractions(pc.fill_null(trimmed(texts.cast(pa.string())), ""))
