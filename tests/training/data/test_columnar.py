"""Parquet and Arrow files, of all types that ids, ratings and times may have."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather
from pyarrow import parquet as pq

from tests.support.reading import read, rows_of
from training.data import columnar
from training.errors import DataError

GOOD: dict[str, object] = {"user": ["a", "b"], "item": ["x", "y"], "rating": [1.0, 2.0]}
NOON = datetime(1997, 12, 4, 12, tzinfo=UTC)
AT_NOON = 881236800


def parquet(table: pa.Table) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def arrow(table: pa.Table, new: Callable[..., pa.ipc.RecordBatchStreamWriter], compression: str | None = None) -> bytes:
    target = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression, unify_dictionaries=new is pa.ipc.new_file)
    with new(target, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1)
    return target.getvalue()


FORMATS: dict[str, Callable[[pa.Table], bytes]] = {
    "Parquet": parquet,
    "Arrow file": lambda table: arrow(table, pa.ipc.new_file),
    "Arrow stream": lambda table: arrow(table, pa.ipc.new_stream),
    "compressed Arrow file": lambda table: arrow(table, pa.ipc.new_file, "zstd"),
    "compressed Arrow stream": lambda table: arrow(table, pa.ipc.new_stream, "lz4"),
}
every_format = pytest.mark.parametrize("kind", FORMATS)


def write(folder: Path, kind: str = "Parquet", **columns: object) -> Path:
    path = folder / "ratings"
    path.write_bytes(FORMATS[kind](pa.table(GOOD | columns)))
    return path


@every_format
@pytest.mark.parametrize(
    "users",
    [
        pa.array(["a", "b"]),
        pa.array([" a", "b\t"], pa.large_string()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([b"a", b"b"]),
        pa.array([b"a", b"b"], pa.large_binary()),
        pa.array([b"a", b"b"], pa.binary(1)),
    ],
    ids=lambda users: str(users.type),
)
def test_ids_may_be_texts_of_any_type(tmp_path: Path, kind: str, users: pa.Array) -> None:
    assert rows_of(read(write(tmp_path, kind, user=users)).ratings) == [("a", "x", 1, None), ("b", "y", 2, None)]


@every_format
@pytest.mark.parametrize(
    "users",
    [
        pa.array([7, 18446744073709551615], pa.uint64()),
        pa.array([Decimal(7), Decimal(18446744073709551615)], pa.decimal128(20, 0)),
        pa.array([Decimal(7), Decimal(18446744073709551615)], pa.decimal256(40, 2)),
        pa.array([7, 18446744073709551615], pa.uint64()).dictionary_encode(),
        pa.array(["7.0", "18446744073709551615.00"]),
    ],
    ids=lambda users: str(users.type),
)
def test_ids_may_be_whole_numbers_of_any_type(tmp_path: Path, kind: str, users: pa.Array) -> None:
    assert read(write(tmp_path, kind, user=users)).ratings.user_ids.to_pylist() == ["7", "18446744073709551615"]


@every_format
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        *((pa.array([NOON, None], pa.timestamp(unit)), [AT_NOON, None]) for unit in ("s", "ms", "us", "ns")),
        (pa.array([NOON, None], pa.timestamp("us", "Europe/Berlin")), [AT_NOON, None]),
        (pa.array([date(1970, 1, 2), None]), [86400, None]),
        (pa.array([date(1970, 1, 2), None], pa.date64()), [86400, None]),
        (pa.array([AT_NOON, None], pa.int32()), [AT_NOON, None]),
        (pa.array([AT_NOON, None], pa.uint64()), [AT_NOON, None]),
        (pa.array([AT_NOON + 0.5, float("nan")]), [AT_NOON, None]),
        (pa.array([Decimal(AT_NOON), None]), [AT_NOON, None]),
        (pa.array([str(AT_NOON), ""]), [AT_NOON, None]),
        (pa.array(["1997-12-04T12:00:00Z", None]).dictionary_encode(), [AT_NOON, None]),
        (pa.array([AT_NOON * 1_000, None]), [AT_NOON, None]),
        (pa.nulls(2), [None, None]),
        (pa.nulls(2, pa.timestamp("ms")), [None, None]),
    ],
)
def test_times_may_be_of_any_type_and_have_gaps(
    tmp_path: Path, kind: str, times: pa.Array, expected: list[int | None]
) -> None:
    assert [row[3] for row in rows_of(read(write(tmp_path, kind, timestamp=times)).ratings)] == expected


@every_format
@pytest.mark.parametrize(
    "ratings",
    [
        pa.array([1, 2], pa.int8()),
        pa.array([1.0, 2.0], pa.float16()),
        pa.array([Decimal("1.0"), Decimal("2.0")]),
        pa.array(["1", " 2.0"]),
        pa.array([1.0, 2.0]).dictionary_encode(),
    ],
    ids=lambda ratings: str(ratings.type),
)
def test_ratings_may_be_numbers_of_any_type(tmp_path: Path, kind: str, ratings: pa.Array) -> None:
    assert read(write(tmp_path, kind, rating=ratings)).ratings.ratings_N.tolist() == [1, 2]


@every_format
def test_categories_that_do_not_occur_are_left_out(tmp_path: Path, kind: str) -> None:
    users = pa.DictionaryArray.from_arrays(pa.array([2, 1]), pa.array(["a", "b", "c", "d"]))
    ratings = read(write(tmp_path, kind, user=users)).ratings
    assert (ratings.user_ids.to_pylist(), ratings.users_N.tolist()) == (["c", "b"], [0, 1])


@every_format
def test_columns_may_be_named_by_position(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ratings"
    path.write_bytes(FORMATS[kind](pa.table({"1": [5.0, 6.0], "who": ["a", "b"], "what": ["x", "y"]})))
    columns = {"user": "2", "item": "what", "rating": "1"}
    assert rows_of(read(path, columns=columns).ratings) == [("a", "x", 5, None), ("b", "y", 6, None)]


@every_format
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [[1], [2]]}, "column user: "),
        ({"user": [True, False]}, "column user: values of type bool are not ids"),
        ({"user": [b"\xff", b"b"]}, "column user: "),
        ({"rating": [True, False]}, "column rating: values of type bool are not numbers"),
        ({"timestamp": [True, False]}, "column timestamp: values of type bool are not numbers"),
        ({"rating": [[1.0], [2.0]]}, "column rating: "),
        ({"rating": [1.0, float("nan")]}, "row 2: rating is missing"),
        ({"rating": pa.array([1.0, float("inf")])}, "row 2: rating inf is not a finite number"),
        ({"user": pa.array([None, 1])}, "row 1: user is missing"),
        ({"item": pa.array(["x", " "])}, "row 2: item is missing"),
        ({"timestamp": pa.array([1, 1 << 62])}, "row 1: timestamp 1 is in another unit"),
        ({"timestamp": pa.array([1, 5_000_000_000])}, "row 2: timestamp 5000000000 is later than the year 2100"),
        ({"timestamp": pa.array([1.0, float("inf")])}, "row 2: timestamp inf is neither a number nor"),
    ],
)
def test_what_is_wrong_is_named_by_column_or_row(
    tmp_path: Path, kind: str, columns: dict[str, object], message: str
) -> None:
    path = write(tmp_path, kind, **columns)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(path)


def test_vocabularies_are_one_over_all_batches(tmp_path: Path) -> None:
    rows = 3 * columnar.BATCH_ROWS
    users = np.arange(rows) % 1000
    ratings = read(write(tmp_path, user=users, item=np.arange(rows) // 1000, rating=np.ones(rows))).ratings
    assert ratings.users == 1000
    assert ratings.user_ids[77].as_py() == "77"
    np.testing.assert_array_equal(ratings.users_N, users)


def test_a_row_is_counted_over_all_batches(tmp_path: Path) -> None:
    rows = columnar.BATCH_ROWS + 7
    ratings = np.ones(rows)
    ratings[-1] = np.inf
    path = write(tmp_path, user=np.arange(rows), item=np.arange(rows), rating=ratings)
    with pytest.raises(DataError, match=f"row {rows}: rating inf"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"PAR1",
        b"PAR1" + b"\0" * 50 + b"PAR1",
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\x10\0\0\0" + b"x" * 16,
    ],
)
def test_what_only_begins_like_one_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ratings").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable (Parquet|Arrow) file"):
        read(tmp_path / "ratings")


@every_format
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = write(tmp_path, kind, user=np.arange(1_000), item=np.arange(1_000), rating=np.ones(1_000))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"not a readable (Parquet|Arrow) file|ends within"):
        read(path)


def test_an_arrow_stream_that_is_cut_off_between_batches_is_refused(tmp_path: Path) -> None:
    """Its end is a mark, and without the mark rows may be missing."""
    path = write(tmp_path, "Arrow stream")
    content = path.read_bytes()
    assert content.endswith(b"\xff\xff\xff\xff\0\0\0\0")
    path.write_bytes(content[:-8])
    with pytest.raises(DataError, match="not a readable Arrow file"):
        read(path)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, user=np.arange(10_000), item=np.arange(10_000), rating=np.ones(10_000))
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * 100 + content[200:])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(path)


def test_feather_is_arrow(tmp_path: Path) -> None:
    feather.write_feather(pa.table(GOOD), tmp_path / "ratings.feather")
    assert len(read(tmp_path / "ratings.feather").ratings) == 2


@every_format
def test_a_wide_table_is_refused_fast_in_a_short_line(tmp_path: Path, kind: str) -> None:
    path, width = tmp_path / "ratings", 20_000
    path.write_bytes(FORMATS[kind](pa.table({f"c{number}": pa.nulls(0, pa.int8()) for number in range(width)})))
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"{width:,} columns; a table of ratings has a row for each rating") as caught:
        read(path)
    assert time.monotonic() - began < 15
    assert len(str(caught.value)) < 1_000


MILLION = b"\x15\x04\x19\xfc\xc1\x84\x3d"  # how the footer of Parquet begins with a million columns and their root
MUCH = (1 << 26).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"PAR1" + MILLION + bytes(100) + b"\x6b\0\0\0PAR1",
            "1,000,000 columns; a table of ratings has a row for each",
        ),
        (b"ARROW1\0\0" + bytes(100) + MUCH + b"ARROW1", "67,108,864 bytes of names and types of columns; a table of"),
        (b"\xff\xff\xff\xff" + MUCH + bytes(100), "67,108,864 bytes of names and types of columns; a table of"),
    ],
)
def test_a_very_wide_table_is_refused_before_its_columns_are_read(tmp_path: Path, content: bytes, message: str) -> None:
    """Arrow takes seconds and a gigabyte to read a million columns. Nothing else of these files is readable."""
    (tmp_path / "ratings").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "ratings")
