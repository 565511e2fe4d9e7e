"""The distribution of ratings over their scale, and of users and items over their numbers of ratings.

Shapes: N ratings, L levels, C counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.report.charts import Chart, categories, numbers
from training.report.formatting import count

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

MAX_LEVELS = 20  # distinct ratings shown one by one; more are put into this many bins
GROUPS = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000])  # the least count of each group


@dataclass(frozen=True, slots=True)
class Levels:
    """Ratings one by one, or in bins.

    Attributes:
        values_L: the ratings, or the centres of the bins; ascending.
        edges: of the bins, (L+1,); None where each level is a rating.
    """

    values_L: Floats
    edges: Floats | None

    @property
    def names(self) -> list[str]:
        return [f"{value:{'g' if self.edges is None else '.3g'}}" for value in self.values_L]

    def of(self, ratings_N: Floats) -> Ints:
        """The level of each rating."""
        if self.edges is None:
            return np.searchsorted(self.values_L, ratings_N)
        return np.clip(np.digitize(ratings_N, self.edges) - 1, 0, len(self.values_L) - 1)


def levels(ratings_N: Floats) -> tuple[Levels, Ints]:
    """The levels of ratings, at most `MAX_LEVELS`, and the number of ratings of each."""
    counted = pa.array(ratings_N).value_counts()
    values_L = counted.field("values").to_numpy(zero_copy_only=False)
    if len(values_L) <= MAX_LEVELS:
        order = values_L.argsort()
        return Levels(values_L[order], None), counted.field("counts").to_numpy(zero_copy_only=False)[order]
    counts_L, edges = np.histogram(ratings_N, bins=MAX_LEVELS)
    return Levels((edges[:-1] + edges[1:]) / 2, edges), counts_L


def group_names(counts_C: Ints) -> list[str]:
    """The names of the groups up to that of the largest count."""
    ends = GROUPS[1:] - 1
    closed = [f"{begin:,}" if begin == end else f"{begin:,}–{end:,}" for begin, end in zip(GROUPS, ends, strict=False)]
    return [*closed, f"{GROUPS[-1]:,} or more"][: int(group_of(counts_C).max()) + 1]


def group_of(counts_C: Ints) -> Ints:
    """The group of each count."""
    return np.searchsorted(GROUPS, counts_C, side="right") - 1


def rating_chart(ratings_N: Floats) -> Chart:
    """How many ratings there are of each level."""
    scale, counts_L = levels(ratings_N)
    return _bar_chart("ratings", "Ratings", "rating", "ratings", scale.names, scale.names, counts_L.tolist())


def activity_chart(what: str, given: str, counts_C: Ints) -> Chart:
    """How many users (items) have how many ratings, from the number of each, without the empty groups at the start."""
    names, sizes = group_names(counts_C), np.bincount(group_of(counts_C))
    first = int(np.flatnonzero(sizes)[0])
    below = [count(begin) for begin in GROUPS[first : len(names)].tolist()]
    title, label = f"{what.capitalize()} by {given}", f"{given}, from"
    return _bar_chart(what, title, label, what, names[first:], below, sizes[first:].tolist())


def _bar_chart(
    name: str, title: str, label: str, what: str, kinds: Sequence[str], below: Sequence[str], sizes: Sequence[int]
) -> Chart:
    """A bar for each kind, with its name on the axis as `below` has it."""
    most = max(sizes)
    return Chart(
        name=name,
        title=title,
        text=f"The number of {what} as bars. The highest bar is {most:,}, at {kinds[sizes.index(most)]}.",
        x=categories(label, below),
        y=numbers(what, [0, *sizes]),
        head=(label.removesuffix(", from").capitalize(), what.capitalize()),
        rows=list(zip(kinds, map(count, sizes), strict=True)),
        bars=list(enumerate(sizes)),
    )
