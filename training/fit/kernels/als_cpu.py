"""Half a sweep of ALS on the CPU, in float32: every row x = [p, b] solves (A + Σ a aᵀ + D) x = Σ t a.

A rating z of the column [q, b] has a = [q, 1] and t = z − b, without biases a = q and t = z; D holds the penalties, A
is the prior. A row of many ratings is cut into segments, so that one popular item does not hold up a sweep.
Shapes as in `als_rows`. Tables and Gram matrices are flat arrays.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.fit.kernels.als_rows import HalfStep, packed_width
from training.fit.kernels.als_short import SHARE, solve_short_rows
from training.fit.kernels.grouping import Features, Grouped, Triplets, add_ratings, balanced_ranges, group
from training.fit.kernels.jit import Float32s, kernel, run_ranges
from training.fit.kernels.simd import LANES
from training.fit.kernels.tiles import BLOCK, Width, backward, factorize, flat, forward, tiles

SEGMENT = 1 << 15  # ratings of one row that one task takes on
ROW_COST = 50  # solving a row costs about as much as this many of its ratings
TASKS_PER_THREAD = 8


class Penalties(NamedTuple):
    """The penalties and the prior of a half-step, as kernels take them."""

    prior: Float32s
    ridge_R: Float32s
    bias_ridge: np.float32
    biased: bool

    @classmethod
    def of(cls, step: HalfStep, width: int) -> Penalties:
        prior_KK = torch.zeros(width, width) if step.prior_KK is None else step.prior_KK.contiguous()
        return cls(flat(prior_KK), flat(step.ridge_R), np.float32(step.bias_ridge or 0), step.biased)


class CpuRows:
    """The ratings of one side grouped by row (implements `als_rows.Rows`)."""

    def __init__(self, ratings: Grouped, threads: int = 1) -> None:
        self._ratings, self._threads, self._run = ratings, threads, partial(run_ranges, threads)
        self._ranges = balanced_ranges(ratings.starts_R, ROW_COST, TASKS_PER_THREAD * threads)
        self._long_rows = np.flatnonzero(ratings.counts_R > SEGMENT).tolist()

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        features, penalties = Features.of(step.other_CK, biased=step.biased), Penalties.of(step, out_RK.shape[1])
        out, least, error = flat(out_RK), 0, 0.0
        if step.prior_KK is not None and not step.biased and self._ratings.roots_N is None:
            error += solve_short_rows(self._ratings, step, partial(self._run, ranges=self._ranges), out_RK)
            least = out_RK.shape[1] // SHARE + 1
        error += sum(self._run(_solve_rows, features, self._ratings, penalties, out, least, ranges=self._ranges))
        for row in self._long_rows:
            gram, weighted, squares = self._long_sums(row, features)
            error += _solve(gram + penalties.prior, weighted, squares, features.width, penalties, row, out)
        return torch.tensor(error, dtype=torch.float64)

    def sums(self, step: HalfStep) -> Tensor:
        features = Features.of(step.other_CK, biased=step.biased)
        sums_RS = np.zeros((len(self._ratings.counts_R), packed_width(step.other_CK.shape[1])), np.float32)
        self._run(_sum_rows, features, self._ratings, sums_RS, ranges=self._ranges)
        for row in self._long_rows:
            _pack(*self._long_sums(row, features), sums_RS[row])
        return torch.from_numpy(sums_RS)

    def solve_sums(self, sums_RS: Tensor, step: HalfStep, out_RK: Tensor) -> Tensor:
        rows, width = out_RK.shape
        ranges = balanced_ranges(np.arange(rows + 1), 0, TASKS_PER_THREAD * self._threads)
        arguments = (sums_RS.numpy(), tiles(width), Penalties.of(step, width), flat(out_RK))
        return torch.tensor(sum(self._run(_solve_packed, *arguments, ranges=ranges)), dtype=torch.float64)

    def _long_sums(self, row: int, features: Features) -> tuple[Float32s, Float32s, np.float32]:
        """The sums of all segments of a row, each a task."""
        start, stop = self._ratings.starts_R[row : row + 2].tolist()
        segments = [(at, min(at + SEGMENT, stop)) for at in range(start, stop, SEGMENT)]
        grams, weighted, squares = zip(*self._run(_sum_segment, features, self._ratings, ranges=segments), strict=True)
        return np.sum(grams, axis=0), np.sum(weighted, axis=0), np.sum(squares, dtype=np.float32)


def compile_for(width: int, *, distributed: bool, weighted: bool) -> None:
    """Compile the kernels, or load them from disk, by fitting a rating. Only a distributed fit needs packed sums."""
    index_1, weights_1 = torch.zeros(1).int(), torch.ones(1) if weighted else None
    rows = CpuRows(group(Triplets(index_1, index_1, torch.zeros(1), 1, 1, weights_1)))
    step, out_1K = HalfStep(torch.zeros(1, width), torch.ones(1), 1.0), torch.zeros(1, width)
    rows.solve(step, out_1K)
    rows._long_sums(0, Features.of(step.other_CK))  # noqa: SLF001
    if distributed:
        rows.solve_sums(rows.sums(step), step, out_1K)


@kernel
def _solve_rows(
    features: Features, ratings: Grouped, penalties: Penalties, out: Float32s, least: int, first: int, last: int
) -> float:
    """Solve rows `first` to `last` of at least so many ratings, except those longer than a segment.

    Returns their sum of squared errors.
    """
    K = LANES * len(features.width)
    gram, weighted = np.empty(K * K, np.float32), np.empty(K, np.float32)
    rows, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    error = 0.0
    for row in range(first, last):
        start, stop = ratings.starts_R[row], ratings.starts_R[row + 1]
        if least <= stop - start <= SEGMENT:
            gram[:] = penalties.prior
            weighted[:] = 0
            squares = add_ratings(features, None, ratings, start, stop, rows, targets, gram, weighted)
            error += _solve(gram, weighted, squares, features.width, penalties, row, out)
    return error


@kernel
def _sum_rows(features: Features, ratings: Grouped, sums_RS: Float32s, first: int, last: int) -> None:
    """The packed sums of rows `first` to `last` except those longer than a segment."""
    for row in range(first, last):
        start, stop = ratings.starts_R[row], ratings.starts_R[row + 1]
        if 0 < stop - start <= SEGMENT:
            gram, weighted, squares = _sum_segment(features, ratings, start, stop)
            _pack(gram, weighted, squares, sums_RS[row])


@kernel
def _sum_segment(features: Features, ratings: Grouped, start: int, stop: int) -> tuple[Float32s, Float32s, np.float32]:
    """Σ a aᵀ, Σ t a and Σ t² over some ratings of one row."""
    K = LANES * len(features.width)
    gram, weighted = np.zeros(K * K, np.float32), np.zeros(K, np.float32)
    rows, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    squares = add_ratings(features, None, ratings, start, stop, rows, targets, gram, weighted)
    return gram, weighted, squares


@kernel
def _pack(gram: Float32s, weighted: Float32s, squares: np.float32, sums_S: Float32s) -> None:
    """Σ a aᵀ above and on its diagonal, row by row, then Σ t a, then Σ t²."""
    K = len(weighted)
    at = 0
    for i in range(K):
        sums_S[at : at + K - i] = gram[i * K + i : i * K + K]
        at += K - i
    sums_S[at : at + K] = weighted
    sums_S[at + K] = squares


@kernel
def _solve_packed(sums_RS: Float32s, width: Width, penalties: Penalties, out: Float32s, first: int, last: int) -> float:
    """Solve rows `first` to `last` from their packed sums. Returns their sum of squared errors."""
    K = LANES * len(width)
    gram, weighted = np.empty(K * K, np.float32), np.empty(K, np.float32)
    error = 0.0
    for row in range(first, last):
        gram[:] = penalties.prior
        at = 0
        for i in range(K):
            gram[i * K + i : i * K + K] += sums_RS[row, at : at + K - i]
            at += K - i
        weighted[:] = sums_RS[row, at : at + K]
        error += _solve(gram, weighted, sums_RS[row, at + K], width, penalties, row, out)
    return error


@kernel
def _solve(
    gram: Float32s, weighted: Float32s, squares: np.float32, width: Width, penalties: Penalties, row: int, out: Float32s
) -> float:
    """Solve one row from its sums, which are overwritten. Returns its squared error: Σ t² − xᵀ Σ t a − xᵀ D x.

    With a prior in `gram` that is the squared error and xᵀ A x.
    """
    K = LANES * len(width)
    ridge = penalties.ridge_R[row]
    last_ridge = penalties.bias_ridge if penalties.biased else ridge
    for i in range(K - 1):
        gram[i * K + i] += ridge
    gram[K * K - 1] += last_ridge
    x, y = out[row * K : (row + 1) * K], np.empty(K, np.float32)
    factorize(gram, min(ridge, last_ridge), width)
    forward(gram, weighted, width, y)
    backward(gram, y, width, x)
    error = squares
    for i in range(K):
        error -= x[i] * (weighted[i] + x[i] * (ridge if i < K - 1 else last_ridge))
    return float(max(error, np.float32(0)))
