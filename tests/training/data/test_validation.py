from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.origin import Origin, Selection
from training.data.validation import checked
from training.errors import ConfigError, DataError

ORIGIN = Origin("here")
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5), st.integers(-2, 2)), min_size=1)


def chosen_columns(found: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    return Selection(renamed=renamed).of(found, ORIGIN)


def batches(rows: Sequence[tuple[int, int, int, int]], size: int) -> list[pa.RecordBatch]:
    return [
        pa.RecordBatch.from_arrays(
            [pa.array(column) for column in zip(*rows[start : start + size], strict=True)],
            names=["user", "item", "rating", "timestamp"],
        )
        for start in range(0, len(rows), size)
    ]


@given(ROWS, st.integers(1, 7))
def test_duplicates_are_dropped_as_a_plain_loop_would_drop_them(
    rows: list[tuple[int, int, int, int]], size: int
) -> None:
    best: dict[tuple[int, int], int] = {}
    for number, (user, item, _, time) in enumerate(rows):
        if (user, item) not in best or time >= rows[best[user, item]][3]:
            best[user, item] = number
    kept = [rows[number] for number in sorted(best.values())]

    result = checked([[(batches(rows, size), ORIGIN)]])
    ratings = result.ratings
    assert result.duplicates == len(rows) - len(kept)
    assert ratings.ratings_N.tolist() == [row[2] for row in kept]
    assert ratings.timestamps_N is not None
    assert ratings.timestamps_N.tolist() == [row[3] for row in kept]
    assert [ratings.user_ids[code].as_py() for code in ratings.users_N] == [str(row[0]) for row in kept]
    assert [ratings.item_ids[code].as_py() for code in ratings.items_N] == [str(row[1]) for row in kept]


@given(ROWS)
def test_vocabularies_are_in_order_of_first_appearance(rows: list[tuple[int, int, int, int]]) -> None:
    ratings = checked([[(batches(rows, 3), ORIGIN)]]).ratings
    for codes, ids in ((ratings.users_N, ratings.user_ids), (ratings.items_N, ratings.item_ids)):
        assert list(dict.fromkeys(codes.tolist())) == list(range(len(ids)))
        assert ids.null_count == 0
        assert codes.dtype == np.int32


def test_ids_that_differ_in_type_or_blanks_between_batches_are_one() -> None:
    first = pa.record_batch({"user": [21, 5], "item": ["a", " b"], "rating": [1, 2]})
    second = pa.record_batch({"user": [21.0, 6.0], "item": ["b ", "a"], "rating": [3.5, 4.5]})
    ratings = checked([[([first, second], ORIGIN)]]).ratings
    assert ratings.user_ids.to_pylist() == ["21", "5", "6"]
    assert ratings.item_ids.to_pylist() == ["a", "b"]


def test_a_row_is_named_by_line_where_there_are_lines() -> None:
    batch = pa.record_batch({"user": [1, 2], "item": [1, 2], "rating": [1.0, None]})
    with pytest.raises(DataError, match="there: line 102: rating is missing"):
        checked([[([batch], Origin("there", lambda row: row + 101))]])


def test_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="here: no ratings"):
        checked([[([], ORIGIN)]])


def test_columns_are_chosen_by_our_names_or_by_those_given() -> None:
    found = ["uid", "item", "score", "timestamp"]
    expected = {"user": "uid", "item": "item", "rating": "score", "timestamp": "timestamp"}
    assert chosen_columns(found, {"user": "uid", "rating": "score"}) == expected
    assert list(chosen_columns(["rating", "item", "user"], {})) == ["user", "item", "rating"]


def test_a_column_cannot_be_two() -> None:
    with pytest.raises(DataError, match="names one column twice"):
        chosen_columns(["user", "item", "rating"], {"item": "user"})


def test_an_unknown_name_in_columns_is_a_mistake_of_the_command() -> None:
    with pytest.raises(ConfigError, match="unknown name users; the names are user, item, rating, timestamp"):
        chosen_columns(["user", "item", "rating"], {"users": "user"})
