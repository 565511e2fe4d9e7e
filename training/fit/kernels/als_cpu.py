"""One half-step of ALS on the CPU: given one side's table, solve every row of the other side's, in float32.

For row r with values z of columns c, the row with a bias is the solution x = [p_r, b_r] of
(A + Σ a aᵀ + D) x = Σ (z − b_c) a, where a = [q_c, 1]; the row without one is the same with a = q_c and b_c = 0. The
prior Gram matrix A is one for all rows: what the columns, rated or not, ask of every row. Rows are independent; a row
of many ratings is cut into segments whose sums are added afterwards, so that one popular item does not hold up a sweep.
Work is laid out for the core: ratings pass through a block of copied rows that stays in its first cache, and sums are
kept in tiles of 8 × 8 in registers.

Shapes: R rows, C columns of the rating matrix, K width of a table: factors, zeros up to a multiple of 8, bias last if
there is one.
Tables, Gram matrices and blocks are flat arrays, so that offsets are plain integers.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from training.fit.kernels.als_rows import packed_width
from training.fit.kernels.grouping import Float32s, Grouped, Int32s, Int64s, balanced_ranges, group
from training.fit.kernels.jit import kernel, run_tasks
from training.fit.kernels.simd import LANES, element, load, store
from training.fit.kernels.tiles import BLOCK, Width, add_products, add_weighted, backward, factorize, forward

SEGMENT = 1 << 15  # ratings of one row that one task takes on
ROW_COST = 50  # solving a row costs about as much as this many of its ratings
TASKS_PER_THREAD = 8


class CpuRows:
    """The ratings of one side grouped by row, ready to be solved again and again."""

    def __init__(self, grouped: Grouped, *, threads: int) -> None:
        self._data = grouped.arrays
        self._threads = threads
        self._ranges = balanced_ranges(grouped.starts_R, ROW_COST, TASKS_PER_THREAD * threads)
        self._long_rows = np.flatnonzero(grouped.counts_R > SEGMENT).tolist()

    def solve(
        self,
        other_CK: Tensor,
        ridge_R: Tensor,
        bias_ridge: float | None,
        out_RK: Tensor,
        prior_KK: Tensor | None = None,
    ) -> Tensor:
        """See `als_rows.Rows`."""
        K = other_CK.shape[1]
        width: Width = (0,) * (K // LANES)
        other, out = other_CK.numpy().reshape(-1), out_RK.numpy().reshape(-1)
        prior = (torch.zeros(K, K) if prior_KK is None else prior_KK.contiguous()).numpy().reshape(-1)
        biased = bias_ridge is not None
        penalty = (ridge_R.numpy(), np.float32(0 if bias_ridge is None else bias_ridge))
        data = (other, width, biased, *self._data)
        tasks = [(*data, prior, *penalty, first, last, out) for first, last in self._ranges]
        error = sum(run_tasks(self._threads, solve_rows, tasks))
        for row in self._long_rows:
            gram, weighted, squares = sum_long_row(row, *data, threads=self._threads)
            error += solve_sums(gram + prior, weighted, squares, width, biased, penalty[0][row], penalty[1], row, out)
        return torch.tensor(error, dtype=torch.float64)

    def sums(self, other_CK: Tensor, *, biased: bool) -> Tensor:
        """See `als_rows.Rows`."""
        K = other_CK.shape[1]
        data = (other_CK.numpy().reshape(-1), (0,) * (K // LANES), biased, *self._data)
        sums_RS = torch.zeros(len(self._data[0]) - 1, packed_width(K))
        run_tasks(self._threads, sum_rows, [(*data, first, last, sums_RS.numpy()) for first, last in self._ranges])
        for row in self._long_rows:
            gram, weighted, squares = sum_long_row(row, *data, threads=self._threads)
            pack(gram, weighted, squares, sums_RS.numpy()[row])
        return sums_RS

    def solve_sums(
        self,
        sums_RS: Tensor,
        ridge_R: Tensor,
        bias_ridge: float | None,
        out_RK: Tensor,
        prior_KK: Tensor | None = None,
    ) -> Tensor:
        """See `als_rows.Rows`."""
        rows, K = out_RK.shape
        prior = (torch.zeros(K, K) if prior_KK is None else prior_KK.contiguous()).numpy().reshape(-1)
        penalty = (ridge_R.numpy(), np.float32(0 if bias_ridge is None else bias_ridge))
        data = (sums_RS.numpy(), (0,) * (K // LANES), bias_ridge is not None, prior, *penalty)
        cuts = np.linspace(0, rows, min(rows, TASKS_PER_THREAD * self._threads) + 1).astype(int).tolist()
        tasks = [(*data, first, last, out_RK.numpy().reshape(-1)) for first, last in pairwise(cuts)]
        return torch.tensor(sum(run_tasks(self._threads, solve_packed, tasks)), dtype=torch.float64)


def padded_width(factors: int, *, biased: bool = True) -> int:
    """K: the factors and the bias, if there is one, up to the next multiple of 8."""
    return -(-(factors + biased) // LANES) * LANES


def compile_for(width: int) -> None:
    """Compile every kernel, or load it from disk, by fitting a single rating."""
    one, zero_ = np.zeros(1, np.int32), np.zeros(1, np.float32)
    table, ridge = torch.zeros(1, width), torch.ones(1)
    grouped = group(one, one, zero_, rows=1)
    rows = CpuRows(grouped, threads=1)
    rows.solve(table, ridge, 1.0, table.clone())
    rows.solve_sums(rows.sums(table, biased=True), ridge, 1.0, table.clone())
    sum_long_row(0, zero_.repeat(width), (0,) * (width // LANES), True, *grouped.arrays, threads=1)


def sum_long_row(
    row: int,
    other: Float32s,
    width: Width,
    biased: bool,
    starts_R: Int64s,
    columns_N: Int32s,
    values_N: Float32s,
    *,
    threads: int,
) -> tuple[Float32s, Float32s, np.float32]:
    """The sums that `sum_segment` returns, of all segments of a row, each a task."""
    start, stop = starts_R[row : row + 2].tolist()
    data = (other, width, biased, columns_N, values_N)
    tasks = [(*data, at, min(at + SEGMENT, stop)) for at in range(start, stop, SEGMENT)]
    grams, weighted, squares = zip(*run_tasks(threads, sum_segment, tasks), strict=True)
    return np.sum(grams, axis=0), np.sum(weighted, axis=0), np.sum(squares, dtype=np.float32)


@kernel
def solve_rows(
    other: Float32s,
    width: Width,
    biased: bool,
    starts_R: Int64s,
    columns_N: Int32s,
    values_N: Float32s,
    prior: Float32s,
    ridge_R: Float32s,
    bias_ridge: np.float32,
    first: int,
    last: int,
    out: Float32s,
) -> float:
    """Solve rows `first` to `last` except those longer than a segment. Returns their sum of squared errors."""
    K = LANES * len(width)
    gram, weighted = np.empty(K * K, np.float32), np.empty(K, np.float32)
    block, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    error = 0.0
    for row in range(first, last):
        start, stop = starts_R[row], starts_R[row + 1]
        if stop - start <= SEGMENT:
            gram[:] = prior
            weighted[:] = 0
            data = (other, width, biased, columns_N, values_N)
            squares = _add_ratings(*data, start, stop, block, targets, gram, weighted)
            error += solve_sums(gram, weighted, squares, width, biased, ridge_R[row], bias_ridge, row, out)
    return error


@kernel
def sum_segment(
    other: Float32s, width: Width, biased: bool, columns_N: Int32s, values_N: Float32s, start: int, stop: int
) -> tuple[Float32s, Float32s, np.float32]:
    """Σ a aᵀ, Σ t a and Σ t² over some ratings of one row, t = z − b_c being what is left beside the column's bias."""
    K = LANES * len(width)
    gram, weighted = np.zeros(K * K, np.float32), np.zeros(K, np.float32)
    block, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    squares = _add_ratings(other, width, biased, columns_N, values_N, start, stop, block, targets, gram, weighted)
    return gram, weighted, squares


@kernel
def solve_sums(
    gram: Float32s,
    weighted: Float32s,
    squares: np.float32,
    width: Width,
    biased: bool,
    ridge: np.float32,
    bias_ridge: np.float32,
    row: int,
    out: Float32s,
) -> float:
    """Solve one row from its sums, which are overwritten. Returns its squared error: Σ t² − xᵀ Σ t a − xᵀ D x.

    With a prior in `gram` that is the squared error and xᵀ A x.
    """
    K = LANES * len(width)
    last_ridge = bias_ridge if biased else ridge
    for i in range(K - 1):
        gram[i * K + i] += ridge
    gram[K * K - 1] += last_ridge
    x = out[row * K : (row + 1) * K]
    y = np.empty(K, np.float32)
    factorize(gram, min(ridge, last_ridge), width)
    forward(gram, weighted, width, y)
    backward(gram, y, width, x)
    error = squares
    for i in range(K):
        error -= x[i] * (weighted[i] + x[i] * (ridge if i < K - 1 else last_ridge))
    return float(max(error, np.float32(0)))


@kernel
def sum_rows(
    other: Float32s,
    width: Width,
    biased: bool,
    starts_R: Int64s,
    columns_N: Int32s,
    values_N: Float32s,
    first: int,
    last: int,
    sums_RS: Float32s,
) -> None:
    """The packed sums of rows `first` to `last` except those longer than a segment."""
    K = LANES * len(width)
    gram, weighted = np.empty(K * K, np.float32), np.empty(K, np.float32)
    block, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    for row in range(first, last):
        start, stop = starts_R[row], starts_R[row + 1]
        if 0 < stop - start <= SEGMENT:
            gram[:] = 0
            weighted[:] = 0
            data = (other, width, biased, columns_N, values_N)
            squares = _add_ratings(*data, start, stop, block, targets, gram, weighted)
            pack(gram, weighted, squares, sums_RS[row])


@kernel
def pack(gram: Float32s, weighted: Float32s, squares: np.float32, sums_S: Float32s) -> None:
    """Σ a aᵀ above and on its diagonal, row by row, then Σ t a, then Σ t²."""
    K = len(weighted)
    at = 0
    for i in range(K):
        for j in range(i, K):
            sums_S[at] = gram[i * K + j]
            at += 1
    sums_S[at : at + K] = weighted
    sums_S[at + K] = squares


@kernel
def solve_packed(
    sums_RS: Float32s,
    width: Width,
    biased: bool,
    prior: Float32s,
    ridge_R: Float32s,
    bias_ridge: np.float32,
    first: int,
    last: int,
    out: Float32s,
) -> float:
    """Solve rows `first` to `last` from their packed sums. Returns their sum of squared errors."""
    K = LANES * len(width)
    gram, weighted = np.empty(K * K, np.float32), np.empty(K, np.float32)
    error = 0.0
    for row in range(first, last):
        gram[:] = prior
        at = 0
        for i in range(K):
            for j in range(i, K):
                gram[i * K + j] += sums_RS[row, at]
                at += 1
        weighted[:] = sums_RS[row, at : at + K]
        squares = sums_RS[row, at + K]
        error += solve_sums(gram, weighted, squares, width, biased, ridge_R[row], bias_ridge, row, out)
    return error


@kernel
def _add_ratings(
    other: Float32s,
    width: Width,
    biased: bool,
    columns_N: Int32s,
    values_N: Float32s,
    start: int,
    stop: int,
    block: Float32s,
    targets: Float32s,
    gram: Float32s,
    weighted: Float32s,
) -> np.float32:
    """Add Σ a aᵀ (its upper tiles) to `gram` and Σ t a to `weighted`; return Σ t²."""
    K = LANES * len(width)
    squares = np.float32(0)
    for position in range(start, stop, BLOCK):
        count = min(BLOCK, stop - position)
        squares += _copy_rows(other, width, biased, columns_N, values_N, position, count, block, targets)
        for i in range(0, K, LANES):
            add_weighted(weighted, block, targets, width, i)
            for j in range(i, K, LANES):
                add_products(gram, block, block, count, width, i, j)
    return squares


@kernel
def _copy_rows(
    other: Float32s,
    width: Width,
    biased: bool,
    columns_N: Int32s,
    values_N: Float32s,
    position: int,
    count: int,
    block: Float32s,
    targets: Float32s,
) -> np.float32:
    """Copy the rows a of `count` ratings into `block` and t = z − b_c into `targets`, its rest 0; return Σ t²."""
    K = LANES * len(width)
    squares = np.float32(0)
    for n in range(count):
        source = columns_N[position + n] * K
        for j in range(0, K, LANES):
            store(block, n * K + j, load(other, source + j))
        target = values_N[position + n]
        if biased:
            target -= element(other, source + K - 1)
            block[n * K + K - 1] = 1
        targets[n] = target
        squares += target * target
    for n in range(count, BLOCK):
        targets[n] = 0
    return squares
