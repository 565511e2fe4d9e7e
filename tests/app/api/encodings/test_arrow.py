from __future__ import annotations

import time
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.encodings import arrow
from app.engine.types import Predictions

decode = partial(arrow.decode, most=100_000)

USERS, ITEMS = ["1", "ünï", ""], ["a/b", "\\", "7"]


def stream(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=2)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def pairs(users: pa.Array, items: pa.Array) -> bytes:
    return stream(pa.table({"user": users, "item": items}))


BODY = pairs(pa.array(USERS), pa.array(ITEMS))


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int64(), pa.string())],
)
def test_texts_of_every_kind_are_ids(kind: pa.DataType) -> None:
    decoded = decode(pairs(pa.array(USERS).cast(kind), pa.array(ITEMS).cast(kind)))
    assert decoded.users.cast(pa.string()).to_pylist() == USERS
    assert decoded.items.cast(pa.string()).to_pylist() == ITEMS


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.int64(), pa.dictionary(pa.int8(), pa.int64())])
def test_integers_are_read_as_strings(kind: pa.DataType) -> None:
    decoded = decode(pairs(pa.array([1, 20, 100], kind), pa.array(ITEMS)))
    assert decoded.users.to_pylist() == ["1", "20", "100"]


def test_an_empty_stream_holds_no_pairs() -> None:
    assert len(decode(pairs(pa.array([], pa.string()), pa.array([], pa.string())))) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"user": USERS}), "other columns"),
        (pa.table({"item": ITEMS, "user": USERS}), "other columns"),
        (pa.table({"users": USERS, "items": ITEMS}), "other columns"),
        (pa.table({"user": USERS, "item": ITEMS, "more": USERS}), "other columns"),
        (pa.table({"user": USERS, "item": [1.0, float("nan"), 3.0]}), "a number that a float does not hold"),
        (pa.table({"user": USERS, "item": [1.0, float("inf"), 3.0]}), "a number that a float does not hold"),
        (pa.table({"user": USERS, "item": [1.0, 2.0**53, 3.0]}), "a number that a float does not hold"),
        (pa.table({"user": USERS, "item": [b"1", b"2", b"3"]}), "neither texts nor numbers"),
        (pa.table({"user": USERS, "item": [["1"], [], ["2"]]}), "neither texts nor numbers"),
        (pa.table({"user": USERS, "item": pa.nulls(3)}), "neither texts nor numbers"),
        (pa.table({"user": USERS, "item": [{"a": "1"}] * 3}), "neither texts nor numbers"),
        (
            pa.table({"user": USERS, "item": pa.array([b"1", b"2", b"1"]).dictionary_encode()}),
            "neither texts nor numbers",
        ),
        (pa.table({"user": USERS, "item": [1, None, 2]}), "nulls"),
        (pa.table({"user": USERS, "item": pa.DictionaryArray.from_arrays([0, 1, 0], ["1", None])}), "nulls"),
        (pa.table({"user": USERS, "item": pa.DictionaryArray.from_arrays([0, 1, 0], pa.array([1, None]))}), "nulls"),
        (pa.table({"user": USERS, "item": ["1", None, "2"]}), "nulls"),
        (pa.table({"user": USERS, "item": pa.array(["1", None, "2"]).dictionary_encode()}), "nulls"),
    ],
)
def test_another_schema_is_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(stream(table))


@pytest.mark.parametrize("end", [b"", arrow.END_OF_STREAM])
def test_a_stream_cut_anywhere_is_refused_or_is_a_shorter_stream(end: bytes) -> None:
    """A cut between two messages that someone ended properly is a stream; every other one is refused."""
    accepted = 0
    for size in range(len(BODY) - len(arrow.END_OF_STREAM)):
        try:
            accepted += len(decode(BODY[:size] + end)) < 3
        except ValueError:
            continue
        assert end
    assert accepted == (4 if end else 0)  # the schema alone and one batch of two, each with and without padding


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_a_compressed_stream_is_refused_before_it_is_decompressed(codec: str, dictionary: bool) -> None:
    column = pa.array(["x" * 100] * 1_000)
    column = column.dictionary_encode() if dictionary else column
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="compressed"):
        decode(stream(pa.table({"user": column, "item": column}), compression=codec))
    assert pa.total_allocated_bytes() <= before + 4096


@pytest.mark.parametrize("codec", ["LZ4", "ZSTD"])
def test_the_compression_of_older_formats_is_refused_too(codec: str) -> None:
    (batch,) = pa.table({"user": USERS, "item": ITEMS}).to_batches()
    older = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=older) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": codec})
    with pytest.raises(ValueError, match="a format before"):
        decode(sink.getvalue().to_pybytes())


def test_names_of_columns_that_are_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="not a readable Arrow stream"):
        decode(BODY.replace(b"user", b"\xffser"))


def test_batches_may_have_dictionaries_of_their_own() -> None:
    batches = [pa.record_batch({"user": pa.array(ids).dictionary_encode(), "item": ids}) for ids in (["a"], ["b", "c"])]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    decoded = decode(sink.getvalue().to_pybytes())
    assert decoded.users.cast(pa.string()).to_pylist() == decoded.items.to_pylist() == ["a", "b", "c"]


@given(data=st.data())
@settings(max_examples=300)
def test_flipped_bytes_are_refused_or_give_texts(data: st.DataObject) -> None:
    body = bytearray(
        data.draw(st.sampled_from([BODY, pairs(pa.array(USERS).dictionary_encode(), pa.array([1, 2, 3]))]))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 9))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(body))
    except UnicodeDecodeError:
        raise  # its message would show a byte of the body
    except ValueError:
        return
    for column in (decoded.users, decoded.items):
        assert all(isinstance(id_, str) for id_ in column.cast(pa.string()).to_pylist())


def test_an_answer_has_float32_ratings_and_names_its_version() -> None:
    ratings = np.array([3.1, 4.2], np.float32)
    content = arrow.encode_predictions(Predictions(ratings, np.array([0, 3], np.uint8), "v1"))
    table = pa.ipc.open_stream(content).read_all()
    assert table["rating"].to_numpy().tolist() == ratings.tolist()
    assert table["source"].to_pylist() == ["model", "global_mean"]
    assert table.schema.metadata == {b"model_version": b"v1"}


def test_a_large_dictionary_that_thousands_of_batches_share_is_looked_into_once() -> None:
    """What is left of it is what is used, in one array, whatever the batches."""
    dictionary = pa.array([f"user {number}" for number in range(200_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([199_999, 3]), dictionary)
    batch = pa.record_batch([column, column], arrow.COLUMNS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(3_000):
            writer.write_batch(batch)
    began = time.process_time()
    asked = decode(sink.getvalue().to_pybytes())
    assert time.process_time() - began < 3  # 200,000 texts are looked at for each batch in hours
    assert asked.users.num_chunks == 1
    assert asked.users.chunk(0).dictionary.to_pylist() == ["user 3", "user 199999"]
    assert asked.items.to_pylist() == ["user 199999", "user 3"] * 3_000


def test_dictionaries_that_change_from_batch_to_batch_are_each_theirs() -> None:
    schema = pa.schema({name: pa.dictionary(pa.int8(), pa.string()) for name in arrow.COLUMNS})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for texts in (["a", "b"], [" c ", "a"]):
            column = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(texts))
            writer.write_batch(pa.record_batch([column, column], schema=schema))
    assert decode(sink.getvalue().to_pybytes()).users.to_pylist() == ["b", "a", "a", "c"]


def test_a_dictionary_that_grows_from_batch_to_batch_is_refused() -> None:
    """Arrow would copy it whole for each batch."""
    schema = pa.schema({name: pa.dictionary(pa.int8(), pa.string()) for name in arrow.COLUMNS})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
        for texts in (["a"], ["a", "b"]):
            column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(texts))
            writer.write_batch(pa.record_batch([column, column], schema=schema))
    with pytest.raises(ValueError, match="dictionaries that grow"):
        decode(sink.getvalue().to_pybytes())


def test_more_pairs_than_are_allowed_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1 pairs"):
        arrow.decode(BODY, most=1)
