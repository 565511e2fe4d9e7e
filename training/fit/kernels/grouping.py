"""Groups ratings by row, that is by user or by item, with a stable counting sort.

Shapes: R rows, N ratings, T threads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.fit.kernels.jit import kernel, run_tasks

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


class Grouped(NamedTuple):
    """Compressed sparse rows, as kernels take them.

    Attributes:
        starts_R: the start of each row and the end of the last, (R+1,), int64.
        columns_N: column of each rating, int32.
        values_N: float32.
    """

    starts_R: Int64s
    columns_N: Int32s
    values_N: Float32s

    @property
    def counts_R(self) -> Int64s:
        return np.diff(self.starts_R)


def group(
    rows_N: Int32s,
    columns_N: Int32s,
    ratings_N: Float32s,
    *,
    rows: int,
    shift: float = 0.0,
    scale: float = 1.0,
    threads: int = 1,
) -> Grouped:
    """Group ratings by row; values become (rating − shift) · scale. A stable counting sort, O(N + R).

    Each thread sorts a part of the ratings and needs R offsets of memory.
    """
    n = len(rows_N)
    parts = [(n * t // threads, n * (t + 1) // threads) for t in range(threads)]
    counts_TR = np.stack(run_tasks(threads, _count, [(rows_N[a:b], rows) for a, b in parts]))
    starts_R = np.zeros(rows + 1, np.int64)
    np.cumsum(counts_TR.sum(0), out=starts_R[1:])
    next_TR = starts_R[:-1] + np.cumsum(counts_TR, 0) - counts_TR
    grouped = Grouped(starts_R, np.empty(n, np.int32), np.empty(n, np.float32))
    numbers = (np.float32(shift), np.float32(scale))
    tasks = [
        (rows_N[a:b], columns_N[a:b], ratings_N[a:b], *numbers, next_R, grouped.columns_N, grouped.values_N)
        for (a, b), next_R in zip(parts, next_TR, strict=True)
    ]
    run_tasks(threads, _scatter, tasks)
    return grouped


def balanced_ranges(starts_R: Int64s, row_cost: float, ranges: int) -> list[tuple[int, int]]:
    """Cut the rows into ranges of about equal work, counting each row as `row_cost` ratings more."""
    work_R = starts_R + row_cost * np.arange(len(starts_R))
    cuts = np.searchsorted(work_R, np.linspace(0, work_R[-1], ranges + 1))
    return list(pairwise(np.unique(cuts.clip(0, len(starts_R) - 1)).tolist()))


@kernel
def _count(rows_N: Int32s, rows: int) -> Int64s:
    counts_R = np.zeros(rows, np.int64)
    for row in rows_N:
        counts_R[row] += 1
    return counts_R


@kernel
def _scatter(
    rows_N: Int32s,
    columns_N: Int32s,
    ratings_N: Float32s,
    shift: np.float32,
    scale: np.float32,
    next_R: Int64s,
    grouped_columns_N: Int32s,
    grouped_values_N: Float32s,
) -> None:
    for n in range(len(rows_N)):
        row = rows_N[n]
        position = next_R[row]
        next_R[row] = position + 1
        grouped_columns_N[position] = columns_N[n]
        grouped_values_N[position] = (ratings_N[n] - shift) * scale
