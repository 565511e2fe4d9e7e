from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest

from training.data import columns

UUID_TEXT = "c7e82e2e-3a14-496e-8180-f173860b0dfb"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([21, 5]), ["21", "5"]),
        (pa.array([21, 5], pa.uint8()), ["21", "5"]),
        (pa.array([21.0, 5.5, None]), ["21", "5.5", None]),
        (pa.array([21.0, float("nan")]), ["21", None]),
        (pa.array([Decimal("21.00"), Decimal("5.50")]), ["21", "5.5"]),
        (pa.array(["021", " a b ", "", "  ", None]), ["021", "a b", None, None, None]),
        (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
        (pa.array(["x", "y"], pa.string_view()), ["x", "y"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([21, 21, 5]).dictionary_encode(), ["21", "21", "5"]),
        (pa.array([UUID(UUID_TEXT), None], pa.uuid()), [UUID_TEXT, None]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_ids_are_strings_whatever_their_type(column: pa.Array, expected: list[str | None]) -> None:
    ids = columns.ids(column)
    assert ids.to_pylist() == expected
    assert ids.type == pa.dictionary(pa.int32(), pa.string())
    assert ids.is_null().to_pylist() == [value is None for value in expected]


@pytest.mark.parametrize(
    "column", [pa.array([[1]]), pa.array([b"\xff"]), pa.array([{"a": 1}]), pa.array([True])], ids=lambda c: str(c.type)
)
def test_lists_truth_values_and_bytes_that_are_no_text_are_no_ids(column: pa.Array) -> None:
    with pytest.raises((TypeError, pa.ArrowException)):
        columns.ids(column)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([4, 5]),
        pa.array([4.0, 5.0], pa.float32()),
        pa.array([Decimal("4.0"), Decimal("5.0")]),
        pa.array(["4", " 5.0 "]),
        pa.array([4.0, 5.0]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_may_come_as_any_type(column: pa.Array) -> None:
    values, bad = columns.numbers(column)
    assert (values.tolist(), bad.tolist()) == ([4, 5], [False, False])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([None, 1.0]),
        pa.array([float("inf"), 1.0]),
        pa.array([1e39, 1.0]),
        pa.array(["x", "1"]),
        pa.array(["", "1"]),
    ],
)
def test_what_is_no_finite_number_is_marked(column: pa.Array) -> None:
    assert columns.numbers(column)[1].tolist() == [True, False]


@pytest.mark.parametrize("column", [pa.array([True]), pa.array([date(2020, 1, 1)]), pa.array([[1.0]])])
def test_truth_values_dates_and_lists_are_no_numbers(column: pa.Array) -> None:
    with pytest.raises((TypeError, pa.ArrowException)):
        columns.numbers(column)


NOON = datetime(1997, 12, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([881236800]),
        pa.array([881236800.75]),
        pa.array(["881236800"]),
        pa.array(["1997-12-04T12:00:00Z"]),
        pa.array(["1997-12-04 12:00:00.5"]),
        pa.array(["1997-12-04T14:00:00+02:00"]),
        pa.array([NOON]),
        pa.array([NOON], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("s")),
    ],
    ids=lambda column: str(column.type),
)
def test_times_become_whole_seconds(column: pa.Array) -> None:
    values, bad, are_seconds = columns.ticks(column)
    assert (values.tolist(), bad.tolist()) == ([881236800], [False])
    assert are_seconds == (str(column[0].as_py())[:4] == "1997")


def test_a_date_is_its_midnight_and_texts_may_be_mixed() -> None:
    texts = pa.array(["1970-01-02", "60", "yesterday", None])
    values, bad, are_seconds = columns.ticks(texts)
    assert (values[:2].tolist(), are_seconds) == ([86400, 60], False)
    assert bad.tolist() == [False, False, True, True]
    assert columns.ticks(pa.array([date(1970, 1, 2)]))[0].tolist() == [86400]


def test_times_before_1970_are_rounded_down() -> None:
    assert columns.ticks(pa.array([-0.5]))[0].tolist() == [-1]
    assert columns.ticks(pa.array(["1969-12-31T23:59:59.5"]))[0].tolist() == [-1]
