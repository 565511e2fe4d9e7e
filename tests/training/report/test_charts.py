"""Axes: that their ticks are round, hold all values, and are neither few nor many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.report.charts import Chart, Line, categories, numbers

finite = st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False).map(lambda value: round(value, 6))


@given(st.lists(finite, min_size=1))
def test_an_axis_holds_its_values_between_few_ticks(values: list[float]) -> None:
    axis = numbers("", values)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert axis.low < axis.high
    places = [place for place, _ in axis.ticks]
    assert places == sorted(set(places))
    assert 2 <= len(places) <= 8


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([0, 31_000], ["0", "10,000", "20,000", "30,000", "40,000"]),
        ([0.873, 0.95], ["0.86", "0.88", "0.90", "0.92", "0.94", "0.96"]),
        ([-1.9, 2.7], ["−2", "−1", "0", "1", "2", "3"]),
        ([3], ["3", "4"]),
        ([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0, 5e6], ["0", "1e+06", "2e+06", "3e+06", "4e+06", "5e+06"]),
    ],
)
def test_ticks_are_written_with_the_decimals_they_need(values: list[float], written: list[str]) -> None:
    assert [text for _, text in numbers("", values).ticks] == written


def test_of_many_categories_every_other_is_named() -> None:
    assert [text for _, text in categories("", list("abc")).ticks] == ["a", "b", "c"]
    assert [text for _, text in categories("", [str(n) for n in range(20)]).ticks] == [str(n) for n in range(0, 20, 2)]


def test_a_line_goes_from_the_left_to_the_right_and_up_for_more() -> None:
    line = Line("", [(0, 0), (1, 1)], "ours")
    chart = Chart(
        name="", title="", text="", x=numbers("", [0, 1]), y=numbers("", [0, 1]), head=(), rows=(), lines=[line]
    )
    assert chart.path(line) == f"M{chart.left}.0 {chart.bottom}.0L{chart.right}.0 {chart.top}.0"
