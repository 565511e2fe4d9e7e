"""The distribution of ratings over their scale, and of users and items over their numbers of ratings.

Shapes: N ratings, L levels, C counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.report.charts import Chart, categories, numbers
from training.report.formatting import count

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

MAX_LEVELS = 20  # distinct ratings shown one by one; more are put into this many bins
GROUPS = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000])  # the least count of each group


def levels(ratings_N: Floats) -> tuple[list[str], Ints]:
    """The names of the levels of ratings, ascending, and the level of each rating.

    Up to `MAX_LEVELS` ratings are levels one by one; more are put into as many bins, which their centres name.
    """
    found = pa.array(ratings_N).dictionary_encode()
    values_L = found.dictionary.to_numpy()
    if len(values_L) <= MAX_LEVELS:
        order = values_L.argsort()
        return [f"{value:g}" for value in values_L[order]], order.argsort()[found.indices.to_numpy()]
    edges = np.histogram_bin_edges(ratings_N, bins=MAX_LEVELS)
    level_N = np.clip(np.digitize(ratings_N, edges) - 1, 0, MAX_LEVELS - 1)
    return [f"{value:.3g}" for value in (edges[:-1] + edges[1:]) / 2], level_N


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
    names, level_N = levels(ratings_N)
    counts_L = np.bincount(level_N, minlength=len(names))
    return _bar_chart("ratings", "Ratings", "rating", "ratings", names, names, counts_L.tolist())


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
