"""The geometry of charts, which `charts.html` draws as SVG. It knows no models.

Charts use the page's fonts, width, and light and dark colours, which a plotting library would not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

Point = tuple[float, float]
MANY_POINTS = 40  # a longer line has no dots
LARGE = 1e6  # from here on tick labels are in scientific notation
MANY_LABELS = 11  # with more categories every other one is labelled


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, with labelled ticks."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


def numbers(label: str, shown: Sequence[float]) -> Axis:
    """An axis that holds all values that are shown, widened to round numbers."""
    low, high = min(shown), max(shown)
    span = high - low or abs(high) or 1.0
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [count * step for count in range(first, last + 1)]
    labels = [f"{value + 0.0:,.{decimals}f}" if abs(value) < LARGE else f"{value:.3g}" for value in values]
    ticks = tuple((value, text.replace("-", "−")) for value, text in zip(values, labels, strict=True))
    return Axis(label, first * step, last * step, ticks)


def categories(label: str, names: Sequence[str]) -> Axis:
    """An axis on which the values 0, 1, … have names."""
    every = 2 if len(names) > MANY_LABELS else 1
    return Axis(label, -0.5, len(names) - 0.5, tuple(list(enumerate(names))[::every]))


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points. `style` is a CSS class: `ours`, `theirs` or `reference`."""

    name: str
    points: Sequence[Point]
    style: str

    @property
    def has_dots(self) -> bool:
        return self.style != "reference" and len(self.points) <= MANY_POINTS


@dataclass(frozen=True, slots=True)
class Box:
    """The 5th, 25th, 50th, 75th and 95th percentile of the values at `x`."""

    x: float
    percentiles: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Marks on two axes.

    Attributes:
        name: of its element in the page, unique.
        text: a description for readers who cannot see it.
        head, rows: its figures as a table.
        bars: the tops of bars that stand on the x axis.
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

    def x_of(self, value: float) -> float:
        """The horizontal position of a value of the x axis."""
        return round(self.left + (value - self.x.low) / (self.x.high - self.x.low) * (self.right - self.left), 2)

    def y_of(self, value: float) -> float:
        """The vertical position of a value of the y axis."""
        return round(self.bottom - (value - self.y.low) / (self.y.high - self.y.low) * (self.bottom - self.top), 2)

    @property
    def category_width(self) -> float:
        """The distance from one category to the next."""
        return round((self.right - self.left) / (self.x.high - self.x.low), 2)

    def path(self, line: Line) -> Markup:
        """The line as an SVG path."""
        return Markup("M") + "L".join(f"{self.x_of(x)} {self.y_of(y)}" for x, y in line.points)
