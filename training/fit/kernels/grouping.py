"""Ratings grouped by row, that is by user or by item, and what a row is solved from: Σ a aᵀ and Σ t a over its ratings.

A rating with value z of a column [q, b] has the features a = [q, 1] and the target t = z − b.
Shapes: R rows, C columns of the rating matrix, N ratings, T threads, K width of a table, a multiple of 8. Tables and
Gram matrices are flat arrays, so that offsets are plain integers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch import Tensor

from training.fit.kernels.jit import Float32s, Int32s, Int64s, kernel, run_tasks
from training.fit.kernels.simd import LANES, add_scaled, element, load, store, zero
from training.fit.kernels.tiles import BLOCK, Width, add_products, add_weighted, flat, tiles


class Triplets(NamedTuple):
    """The ratings as one side sees them: indices (int32) and values (float32) of a sparse matrix of rows × columns.

    `weights_N` are the relative precisions of the ratings, float32; None where all are 1.
    """

    rows_N: Tensor
    columns_N: Tensor
    values_N: Tensor
    rows: int
    columns: int
    weights_N: Tensor | None = None


class Grouped(NamedTuple):
    """Compressed sparse rows, as kernels take them; `starts_R` (R+1,) is where each begins, and the end of the last.

    `roots_N` are the roots of the ratings' weights; None where all are 1.
    """

    starts_R: Int64s
    columns_N: Int32s
    values_N: Float32s
    roots_N: Float32s | None

    @property
    def counts_R(self) -> Int64s:
        return np.diff(self.starts_R)


def group(ratings: Triplets, threads: int = 1) -> Grouped:
    """Group ratings on the CPU by row with a stable counting sort, O(N + R).

    Each thread sorts a part of the ratings and needs R offsets of memory.
    """
    rows_N, columns_N, values_N = (column_N.numpy() for column_N in ratings[:3])
    n, rows = len(rows_N), ratings.rows
    parts = [(n * t // threads, n * (t + 1) // threads) for t in range(threads)]
    counts_TR = np.stack(run_tasks(threads, _count, [(rows_N[a:b], rows) for a, b in parts]))
    starts_R = np.zeros(rows + 1, np.int64)
    np.cumsum(counts_TR.sum(0), out=starts_R[1:])
    next_TR = starts_R[:-1] + np.cumsum(counts_TR, 0) - counts_TR
    roots_N = None if ratings.weights_N is None else ratings.weights_N.sqrt().numpy()
    grouped = Grouped(starts_R, np.empty(n, np.int32), np.empty(n, np.float32), _empty_like(roots_N))
    tasks = [
        (rows_N[a:b], columns_N[a:b], values_N[a:b], None if roots_N is None else roots_N[a:b], next_R, *grouped[1:])
        for (a, b), next_R in zip(parts, next_TR, strict=True)
    ]
    run_tasks(threads, _scatter, tasks)
    return grouped


def _empty_like(values_N: Float32s | None) -> Float32s | None:
    return None if values_N is None else np.empty_like(values_N)


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
    values_N: Float32s,
    roots_N: Float32s | None,
    next_R: Int64s,
    to_columns_N: Int32s,
    to_values_N: Float32s,
    to_roots_N: Float32s | None,
) -> None:
    for n in range(len(rows_N)):
        row = rows_N[n]
        position = next_R[row]
        next_R[row] = position + 1
        to_columns_N[position] = columns_N[n]
        to_values_N[position] = values_N[n]
        if roots_N is not None and to_roots_N is not None:
            to_roots_N[position] = roots_N[n]


class Features(NamedTuple):
    """The other side's table, as kernels take it. Without biases a = q and t = z."""

    table: Float32s
    width: Width
    biased: bool

    @classmethod
    def of(cls, table_CK: Tensor, *, biased: bool = True) -> Features:
        return cls(flat(table_CK), tiles(table_CK.shape[1]), biased)


@kernel
def add_ratings(
    features: Features,
    root_C: Float32s | None,
    ratings: Grouped,
    start: int,
    stop: int,
    rows: Float32s,
    targets: Float32s,
    gram: Float32s,
    weighted: Float32s,
) -> np.float32:
    """Add Σ w a aᵀ (its upper tiles) to `gram` and Σ w t a to `weighted`; return Σ w t².

    `root_C` is √w of each column, None where all are 1, and is multiplied with that of each rating; `rows` and
    `targets` are a block of zeros to work in, which stays in the core's first cache.
    """
    width = features.width
    K = LANES * len(width)
    squares = np.float32(0)
    for position in range(start, stop, BLOCK):
        count = min(BLOCK, stop - position)
        squares += _copy_features(features, root_C, ratings.roots_N, ratings, position, count, rows, targets)
        for i in range(0, K, LANES):
            add_weighted(weighted, rows, targets, width, i)
            for j in range(i, K, LANES):
                add_products(gram, rows, rows, count, width, i, j)
    return squares


@kernel
def _copy_features(
    features: Features,
    root_C: Float32s | None,
    roots_N: Float32s | None,
    ratings: Grouped,
    position: int,
    count: int,
    rows: Float32s,
    targets: Float32s,
) -> np.float32:
    """Write √w a of `count` ratings into `rows` and √w t into `targets`, its rest 0; return Σ w t²."""
    table = features.table
    K = LANES * len(features.width)
    squares = np.float32(0)
    for n in range(count):
        column = ratings.columns_N[position + n]
        one = np.float32(1)
        if root_C is not None:
            one *= root_C[column]
        if roots_N is not None:
            one *= roots_N[position + n]
        for j in range(0, K, LANES):
            vector = load(table, column * K + j)
            if root_C is not None or roots_N is not None:
                vector = add_scaled(zero(), one, vector)
            store(rows, n * K + j, vector)
        target = ratings.values_N[position + n]
        if features.biased:
            target -= element(table, column * K + K - 1)
        if root_C is not None or roots_N is not None:
            target *= one
        if features.biased:
            rows[n * K + K - 1] = one
        targets[n] = target
        squares += target * target
    for n in range(count, BLOCK):
        targets[n] = 0
    return squares
