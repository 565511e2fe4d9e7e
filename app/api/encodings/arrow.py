"""Arrow IPC streams: columns `user` and `item` in, `rating` and `source` out, and perhaps `low` and `high`.

A stream from a client is checked before it is used: first the headers of its messages, then its columns in full.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.api.encodings.ids import too_many_pairs
from app.engine.types import SOURCES, Pairs, Predictions
from models.checkpoint.arrow_messages import refuse_compressed
from models.ids import NOT_HELD, of_numbers, trimmed, without_zero_fractions

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
COLUMNS = ["user", "item"]
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SOURCES = pa.array([str(source) for source in SOURCES])
_SCHEMA = pa.schema({"rating": pa.float32(), "source": pa.dictionary(pa.int8(), pa.string())})
_ENDS = (pa.field("low", pa.float32()), pa.field("high", pa.float32()))


def decode(body: bytes, most: int) -> Pairs:
    """The at most `most` pairs of a stream. Raises ValueError, whose message does not repeat the body."""
    if not body.endswith(END_OF_STREAM):
        raise ValueError("the Arrow stream is cut short: it lacks its end-of-stream marker")
    stream = pa.py_buffer(body)
    refuse_compressed(stream)
    try:
        with pa.ipc.open_stream(stream) as reader:
            _check_schema(reader.schema)
            table = reader.read_all()
        if len(table) > most:
            raise ValueError(too_many_pairs(most))
        table.validate()
        return Pairs(*(_texts(table, name) for name in COLUMNS))
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"not a readable Arrow stream: {type(error).__name__}") from error


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
    if column.null_count:
        raise ValueError(f"column {name} of the Arrow stream holds nulls")
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([_of_dictionaries(column, name)])
    column.validate(full=True)
    whole = column.combine_chunks()  # thousands of batches cost no more than one
    return pa.chunked_array([_clean(whole)])


def _of_dictionaries(column: pa.ChunkedArray, name: str) -> pa.DictionaryArray:
    """The column as one array, whose dictionary has what is used of those of all batches; most batches share one."""
    dictionaries: dict[tuple[object, ...], tuple[pa.Array, int]] = {}
    parts, size = [np.empty(0, np.int64)], 0
    for chunk in column.chunks:
        dictionary = chunk.dictionary
        place = (*(buffer and buffer.address for buffer in dictionary.buffers()), dictionary.offset, len(dictionary))
        if place not in dictionaries:
            dictionary.validate(full=True)  # once: the whole column would have it validated for each batch
            if dictionary.null_count:
                raise ValueError(f"column {name} of the Arrow stream holds nulls")
            dictionaries[place] = dictionary, size
            size += len(dictionary)
        indices_C = chunk.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        if len(indices_C) and not (indices_C.min() >= 0 and indices_C.max() < len(dictionary)):
            raise IndexError
        parts.append(indices_C + dictionaries[place][1])
    whole = pa.concat_arrays([pa.array([], _kind(column.type)), *(texts for texts, _ in dictionaries.values())])
    used_K, indices_B = np.unique(np.concatenate(parts), return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(indices_B), _clean(whole.take(pa.array(used_K))))


def _clean(ids: pa.Array) -> pa.Array:
    """`models.ids.of` for an array of texts or numbers."""
    texts = of_numbers(ids) if _is_number(ids.type) else ids
    if texts.null_count:  # of NaN: the column has no nulls
        raise ValueError(NOT_HELD)
    return without_zero_fractions(pc.fill_null(trimmed(texts.cast(pa.string())), ""))
