"""Where the marks of a chart stand. `charts.html` draws them as SVG, in colours of the page; neither knows models.

Charts are drawn here and not by a plotting library because they are part of the page: its fonts, its light and dark
colours and its width are theirs, and drawing all of them takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

Point = tuple[float, float]
MANY_POINTS = 40  # a line of more is drawn without a dot at each
LARGE = 1e6  # what is written beside an axis has room for so much
MANY_LABELS = 11  # of an axis of categories: of more every other one is written


@dataclass(frozen=True, slots=True)
class Axis:
    """The stretch from `low` to `high`, and what is written at which of its values."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


def numbers(label: str, values: Sequence[float]) -> Axis:
    """An axis from the least to the greatest of the values, widened to round numbers."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple((count * step, _written(count * step, decimals)) for count in range(first, last + 1))
    return Axis(label, first * step, last * step, ticks)


def categories(label: str, names: Sequence[str]) -> Axis:
    """An axis on which the values 0, 1, … have names."""
    every = 2 if len(names) > MANY_LABELS else 1
    return Axis(label, -0.5, len(names) - 0.5, tuple(list(enumerate(names))[::every]))


def _written(value: float, decimals: int) -> str:
    written = f"{value + 0.0:,.{decimals}f}" if abs(value) < LARGE else f"{value:.3g}"
    return written.replace("-", "−")


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; `style` is a class of the page: `ours`, `theirs` or `reference`."""

    name: str
    points: Sequence[Point]
    style: str

    @property
    def has_dots(self) -> bool:
        return self.style != "reference" and len(self.points) <= MANY_POINTS


@dataclass(frozen=True, slots=True)
class Box:
    """How values are spread at `x`: their 5th, 25th, 50th, 75th and 95th percentile."""

    x: float
    percentiles: tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Marks on two axes.

    Attributes:
        name: of the element in the page, unlike that of any other chart.
        title, text: what it shows, and what is to be seen in it, for those who do not see it.
        head, rows: the figures behind the marks as a table.
        lines, boxes: marks.
        bars: points that stand on the x axis as bars.
    """

    name: str
    title: str
    text: str
    x: Axis
    y: Axis
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[Line] = ()
    bars: Sequence[Point] = ()
    boxes: Sequence[Box] = ()

    width: ClassVar = 360
    height: ClassVar = 244
    left: ClassVar = 52
    right: ClassVar = 350
    top: ClassVar = 26
    bottom: ClassVar = 202

    def across(self, value: float) -> float:
        """Where a value of the x axis stands."""
        return round(self.left + (value - self.x.low) / (self.x.high - self.x.low) * (self.right - self.left), 2)

    def down(self, value: float) -> float:
        """Where a value of the y axis stands."""
        return round(self.bottom - (value - self.y.low) / (self.y.high - self.y.low) * (self.bottom - self.top), 2)

    @property
    def pace(self) -> float:
        """The room from one category to the next."""
        return round((self.right - self.left) / (self.x.high - self.x.low), 2)

    def path(self, line: Line) -> Markup:
        """The line as an SVG path."""
        return Markup("M") + "L".join(f"{self.across(x)} {self.down(y)}" for x, y in line.points)
