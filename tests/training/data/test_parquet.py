from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from training.data.parquet import read
from training.errors import DataError


def write(folder: Path, **columns: object) -> Path:
    path = folder / "ratings.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_categories_that_do_not_occur_are_left_out(tmp_path: Path) -> None:
    users = pa.DictionaryArray.from_arrays(pa.array([2, 1, 2]), pa.array(["a", "b", "c", "d"]))
    ratings = read(write(tmp_path, user=users, item=[1, 2, 3], rating=[1, 2, 3])).ratings
    assert ratings.user_ids.to_pylist() == ["c", "b"]
    assert ratings.users_N.tolist() == [0, 1, 0]


def test_vocabularies_are_one_over_all_batches(tmp_path: Path) -> None:
    rows = 3 << 20  # three batches
    users = np.arange(rows) % 1000
    ratings = read(write(tmp_path, user=users, item=np.arange(rows) // 1000, rating=np.ones(rows))).ratings
    assert ratings.users == 1000
    assert ratings.user_ids[77].as_py() == "77"
    np.testing.assert_array_equal(ratings.users_N, users)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [[1], [2]]}, "column user: "),
        ({"rating": [True, False]}, "column rating: values of type bool are not numbers"),
        ({"timestamp": [True, False]}, "column timestamp: values of type bool are not numbers"),
        ({"rating": [[1.0], [2.0]]}, "column rating: "),
        ({"rating": [1.0, float("nan")]}, "row 2: rating is missing"),
        ({"rating": pa.array([1.0, float("inf")])}, "row 2: rating inf is not a finite number"),
        ({"user": pa.array([None, 1])}, "row 1: user is missing"),
    ],
)
def test_what_is_wrong_is_named_by_column_or_row(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = write(tmp_path, **{"user": [1, 2], "item": [1, 2], "rating": [1, 2], **columns})
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(path)


def test_a_row_is_counted_over_all_batches(tmp_path: Path) -> None:
    rows = (1 << 20) + 7
    ratings = np.ones(rows)
    ratings[-1] = np.inf
    path = write(tmp_path, user=np.arange(rows), item=np.arange(rows), rating=ratings)
    with pytest.raises(DataError, match=f"row {rows}: rating inf"):
        read(path)


@pytest.mark.parametrize("content", [b"user,item,rating\n1,2,3\n", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_what_is_not_parquet_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ratings.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(path)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, user=np.arange(10_000), item=np.arange(10_000), rating=np.ones(10_000))
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * 100 + content[200:])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(path)


def test_a_directory_an_empty_file_or_none_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty.parquet"
    empty.touch()
    for path, message in ((tmp_path, "is a directory"), (empty, "is empty"), (tmp_path / "none", "no such file")):
        with pytest.raises(DataError, match=message):
            read(path)
