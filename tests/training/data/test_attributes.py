"""Side information becomes finite, centred numbers, or is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.data.attributes import MAX_CATEGORIES, encode
from training.errors import DataError

IDS = pa.array(["a", "b", "c", "d"])


def table(**columns: object) -> pa.Table:
    return pa.table({"id": ["a", "b", "c", "d"], **columns})


def test_numbers_are_standardised_also_when_they_come_as_text() -> None:
    expected = np.array([[-1.0], [1.0], [-1.0], [1.0]], np.float32)
    for ages in ([20, 40, 20, 40], ["20", "40", "20", "40"]):
        np.testing.assert_allclose(encode(table(age=ages), IDS), expected)


def test_a_missing_number_counts_as_the_average() -> None:
    assert encode(table(age=[20, 40, None, None]), IDS).tolist() == [[-1.0], [1.0], [0.0], [0.0]]


@pytest.mark.parametrize("gap", ["", " ", "NA", "nan", r"\N"])
def test_a_gap_in_a_text_of_numbers_counts_as_the_average(gap: str) -> None:
    assert encode(table(age=["20", "40", gap, None]), IDS).tolist() == [[-1.0], [1.0], [0.0], [0.0]]


def test_a_blank_text_is_no_category() -> None:
    expected = encode(table(job=["artist", None, "doctor", "NA"]), IDS)
    assert expected.shape == (4, 3)  # NA may be a name
    assert encode(table(job=["artist", "", " doctor ", "NA"]), IDS).tolist() == expected.tolist()


def test_texts_become_a_centred_column_each() -> None:
    encoded = encode(table(job=["artist", "doctor", "artist", "doctor"]), IDS)
    assert encoded.tolist() == [[0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [-0.5, 0.5]]


def test_lists_have_several_ones_a_row() -> None:
    encoded = encode(table(genres=[["War", "Drama"], ["War"], ["Drama"], []]), IDS)
    assert encoded.tolist() == [[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]]


def test_rows_follow_the_ids_and_an_id_without_attributes_is_zero() -> None:
    encoded = encode(table(age=[1, 2, 3, 6]), pa.array(["d", "nobody", "a"]))
    assert encoded.tolist() == [[1.0], [0.0], [-1.0]]


def test_what_says_nothing_is_left_out() -> None:
    many = [f"zip{n}" for n in range(MAX_CATEGORIES + 1)]
    ids = pa.array([f"u{n}" for n in range(MAX_CATEGORIES + 1)])
    assert encode(pa.table({"id": ids, "zip": many, "same": [1.0] * len(many)}), ids) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e300])
def test_a_number_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    with pytest.raises(DataError, match="attribute age has a value that is not finite"):
        encode(table(age=pa.array([1.0, 2.0, bad, 3.0])), IDS)


@pytest.mark.parametrize(
    "column", [[b"\xff"] * 4, [{"a": 1}] * 4, [[[1]]] * 4], ids=["bytes", "records", "nested lists"]
)
def test_a_column_that_cannot_be_encoded_is_refused_by_name(column: list[object]) -> None:
    with pytest.raises(DataError, match=r"attribute job has the type .* cannot be used"):
        encode(table(job=column), IDS)


def test_attributes_of_other_ids_are_refused() -> None:
    with pytest.raises(DataError, match="no id in common"):
        encode(table(age=[1, 2, 3, 4]), pa.array(["x", "y"]))
