"""Arrow IPC streams: columns `user` and `item` in, `rating` and `source` out.

A stream from a stranger is checked before it is believed: its messages before they are read, its columns in full.
"""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.engine.answers import SOURCES, Pairs, Predictions

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
COLUMNS = ["user", "item"]
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SOURCES = pa.array([str(source) for source in SOURCES])
_SCHEMA = pa.schema({"rating": pa.float32(), "source": pa.dictionary(pa.int8(), pa.string())})


def decode(body: bytes) -> Pairs:
    """The pairs of a stream. Raises ValueError, whose message does not repeat the body."""
    if not body.endswith(END_OF_STREAM):
        raise ValueError("the Arrow stream is cut short: it lacks its end-of-stream marker")
    try:
        _check_messages(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _check_schema(reader.schema)
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, struct.error, IndexError) as error:
        raise ValueError(f"not a readable Arrow stream: {type(error).__name__}") from error
    return Pairs(*(_texts(table, name) for name in COLUMNS))


def encode_predictions(answer: Predictions) -> bytes:
    """One batch; the schema's metadata has `model_version`."""
    sources = pa.DictionaryArray.from_arrays(pa.array(answer.sources_B.astype(np.int8)), _SOURCES)
    schema = _SCHEMA.with_metadata({"model_version": answer.version})
    batch = pa.record_batch([pa.array(answer.ratings_B), sources], schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _check_schema(schema: pa.Schema) -> None:
    if schema.names != COLUMNS:
        raise ValueError(f"the Arrow stream holds other columns than {', '.join(COLUMNS)}")
    for name, kind in zip(COLUMNS, map(_kind, schema.types), strict=True):
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            raise ValueError(f"column {name} of the Arrow stream holds neither texts nor integers")


def _kind(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table[name]
    if pa.types.is_integer(_kind(column.type)):
        column = pc.cast(column, pa.string())
    dictionaries = [chunk.dictionary for chunk in column.chunks if pa.types.is_dictionary(column.type)]
    if column.null_count or any(dictionary.null_count for dictionary in dictionaries):
        raise ValueError(f"column {name} of the Arrow stream holds nulls")
    return column


def _check_messages(body: bytes) -> None:
    """Raise ValueError for compressed buffers: a small body could ask for any amount of memory.

    Before format 1.0 (2020) a message said in another place that it is compressed, and Arrow still looks there.
    """
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        metadata = message.metadata.to_pybytes()
        if _version(metadata) != _VERSION_5:
            raise ValueError("Arrow streams of a format before 1.0 are not accepted")
        if _is_compressed(metadata):
            raise ValueError("compressed Arrow streams are not accepted")


# Numbers of the fields of the format's flatbuffers (Message.fbs): unions are two fields, the type and the value.
_VERSION, _HEADER_TYPE, _HEADER, _DATA_OF_DICTIONARY, _COMPRESSION = 0, 1, 2, 1, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_VERSION_5 = 4  # they are counted from 0


def _version(metadata: bytes) -> int:
    field = _field(metadata, struct.unpack_from("<I", metadata)[0], _VERSION)
    version: int = 0 if field is None else struct.unpack_from("<h", metadata, field)[0]
    return version


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's buffers are compressed, from its flatbuffer. Raises struct.error for a broken one."""
    root = struct.unpack_from("<I", metadata)[0]
    header_type = _field(metadata, root, _HEADER_TYPE)
    kind = metadata[header_type] if header_type is not None else 0
    batch = _table(metadata, root, _HEADER)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = _table(metadata, batch, _DATA_OF_DICTIONARY)
    elif kind != _RECORD_BATCH:
        return False
    return batch is not None and _field(metadata, batch, _COMPRESSION) is not None


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table begins, None where it is absent."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if vtable < 0 or struct.unpack_from("<H", metadata, vtable)[0] < 6 + 2 * number:
        return None
    offset = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _table(metadata: bytes, table: int, number: int) -> int | None:
    """Where the table that a field points to begins."""
    at = _field(metadata, table, number)
    return None if at is None else at + struct.unpack_from("<I", metadata, at)[0]
