"""The heavy steps of the Gibbs sampler on the CPU, compiled by numba.

Work is cut by the ratings alone, never by the number of threads, so the results do not depend on it.
Shapes as in `gibbs`, and S segments of at most `SEGMENT` ratings of one row. Names without a suffix are flat arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from training.fit.kernels.effects_cpu import draw_effects
from training.fit.kernels.gibbs import EffectState, RowState
from training.fit.kernels.grouping import Features, Grouped, Triplets, add_ratings, balanced_ranges, group
from training.fit.kernels.jit import Float32s, Float64s, Int64s, kernel, run_ranges
from training.fit.kernels.simd import LANES, add_scaled, element, load, store, zero
from training.fit.kernels.tiles import BLOCK, Width, backward, factorize, flat, forward, tiles

SEGMENT = 4096  # a longer row is summed in parts, so that one popular item occupies one thread for no longer than this
TASK = 32768  # ratings in a task: some milliseconds
ROW_COST = 16  # a row counts as this many ratings more


class CpuRows:
    """The ratings of one side, grouped by row (implements `gibbs.Rows`). `threads` may be changed between sweeps."""

    def __init__(self, ratings: Triplets, threads: int = 1) -> None:
        self.threads = threads
        self._ratings = group(ratings, threads)
        cuts_S, self._first_R = _cut(self._ratings.starts_R)
        self._segments = self._ratings._replace(starts_R=cuts_S)
        self._segment_tasks, self._tasks = _tasks(cuts_S), _tasks(self._ratings.starts_R)

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        width, segments = other_CK.shape[1], len(self._segments.counts_R)
        gram_SKK = np.empty((segments, width, width), np.float32)
        rhs_SK = np.empty((segments, width), np.float32)
        root_C = weight_C.sqrt().numpy()
        arguments = (self._segments, Features.of(other_CK), root_C, gram_SKK, rhs_SK)
        run_ranges(self.threads, _gram, *arguments, ranges=self._segment_tasks)
        if segments > len(self._first_R):
            gram_SKK, rhs_SK = (np.add.reduceat(sums, self._first_R) for sums in (gram_SKK, rhs_SK))
        return torch.from_numpy(gram_SKK), torch.from_numpy(rhs_SK)

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        drawn_RK = torch.empty_like(state.prior_RK)
        floor, width = np.float32(state.precision_K.min()), tiles(drawn_RK.shape[1])
        self._run(_draw, FlatRowState(*map(flat, state)), flat(noise_RK), flat(drawn_RK), floor, width)
        return drawn_RK

    def draw_effects(self, state: EffectState, noise: Iterator[Tensor]) -> None:
        draw_effects(self._ratings, self._run, state, next(noise))

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        errors_R2 = np.empty((len(own_RK), 2))
        ratings, other = self._ratings, Features.of(other_CK)
        self._run(_errors, ratings, ratings.roots_N, flat(own_RK), other, flat(weight_C), errors_R2)
        return torch.from_numpy(errors_R2)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> None:
        run_ranges(self.threads, function, *arguments, ranges=self._tasks)

    def sums(self, table_CK: Tensor) -> Tensor:
        starts_R, columns_N = torch.from_numpy(self._ratings.starts_R), torch.from_numpy(self._ratings.columns_N)
        if len(columns_N) < 2**31:  # of another type than the starts, the columns would be copied
            starts_R = starts_R.int()
        return embedding_bag(columns_N, table_CK, starts_R, mode="sum", include_last_offset=True)


def compile_for(width: int, *, weighted: bool) -> None:
    """Compile the kernels, or load them from disk, by fitting a rating."""
    index_1, one_1, table_1K, ones_K = torch.zeros(1).int(), torch.ones(1), torch.zeros(1, width), torch.ones(width)
    rows = CpuRows(Triplets(index_1, index_1, one_1, 1, 1, one_1 if weighted else None))
    sums = rows.gram(table_1K, one_1)
    rows.draw(RowState(*sums, one_1, table_1K, ones_K), table_1K)
    rows.draw_effects(EffectState(one_1, *sums, table_1K, ones_K, table_1K.clone(), table_1K.clone()), iter([table_1K]))
    rows.errors(table_1K, table_1K, one_1)


def _cut(starts_R: Int64s) -> tuple[Int64s, Int64s]:
    """Cut each row into one or more segments: their boundaries (S+1,), and which is the first of each row (R,)."""
    counts_R = np.diff(starts_R)
    segments_R = np.maximum(1, -(-counts_R // SEGMENT))
    first_R = np.cumsum(segments_R) - segments_R
    row_S = np.repeat(np.arange(len(counts_R)), segments_R)
    nth_S = np.arange(len(row_S)) - first_R[row_S]
    return np.append(starts_R[row_S] + nth_S * SEGMENT, starts_R[-1:]), first_R


def _tasks(starts_R: Int64s) -> list[tuple[int, int]]:
    """Cut rows into ranges of about `TASK` ratings."""
    work = int(starts_R[-1]) + ROW_COST * len(starts_R)
    return balanced_ranges(starts_R, ROW_COST, -(-work // TASK))


@kernel
def _gram(
    segments: Grouped, features: Features, root_C: Float32s, gram_SKK: Float32s, rhs_SK: Float32s, first: int, last: int
) -> None:
    K = LANES * len(features.width)
    rows, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    gram_SKK[first:last] = 0
    rhs_SK[first:last] = 0
    for s in range(first, last):
        gram = gram_SKK[s].reshape(-1)
        start, stop = segments.starts_R[s], segments.starts_R[s + 1]
        add_ratings(features, root_C, segments, start, stop, rows, targets, gram, rhs_SK[s])
        for i in range(K):
            for j in range(i):
                gram[i * K + j] = gram[j * K + i]


class FlatRowState(NamedTuple):
    """`RowState` as kernels take it."""

    gram: Float32s
    rhs: Float32s
    scale_R: Float32s
    prior: Float32s
    precision_K: Float32s


@kernel
def _draw(
    state: FlatRowState, noise: Float32s, drawn: Float32s, floor: np.float32, width: Width, first: int, last: int
) -> None:
    """Draw rows `first` to `last`; `floor` is the least entry of Λ."""
    K, precision_K = LANES * len(width), state.precision_K
    matrix, side, half = np.empty(K * K, np.float32), np.empty(K, np.float32), np.empty(K, np.float32)
    for r in range(first, last):
        gram, rhs, scale = state.gram[r * K * K : (r + 1) * K * K], state.rhs[r * K : (r + 1) * K], state.scale_R[r]
        for i in range(0, K * K, LANES):
            scaled = add_scaled(zero(), scale, load(gram, i))
            store(gram, i, scaled)
            store(matrix, i, scaled)
        for a in range(K):
            rhs[a] *= scale
            matrix[a * K + a] += precision_K[a]
            side[a] = rhs[a] + precision_K[a] * state.prior[r * K + a]
        factorize(matrix, floor, width)
        forward(matrix, side, width, half)
        for a in range(K):
            half[a] += noise[r * K + a]
        x = drawn[r * K : (r + 1) * K]
        backward(matrix, half, width, x)
        for a in range(K):
            for j in range(0, K, LANES):
                store(rhs, j, add_scaled(load(rhs, j), -x[a], load(gram, a * K + j)))


@kernel
def _errors(
    ratings: Grouped,
    roots_N: Float32s | None,
    own: Float32s,
    other: Features,
    weight_C: Float32s,
    errors_R2: Float64s,
    first: int,
    last: int,
) -> None:
    K, table = LANES * len(other.width), other.table
    starts_R, columns_N, values_N = ratings.starts_R, ratings.columns_N, ratings.values_N
    row = np.empty(K, np.float32)
    for r in range(first, last):
        weighted, plain = 0.0, 0.0
        row[:] = own[r * K : (r + 1) * K]
        bias, row[K - 1] = row[K - 1], 1
        for n in range(starts_R[r], starts_R[r + 1]):
            c = columns_N[n]
            predicted = np.float32(0)
            for a in range(K):
                predicted += element(row, a) * element(table, c * K + a)
            error = np.float64(values_N[n] - bias - predicted)
            plain += error * error
            if roots_N is not None:
                error *= np.float64(roots_N[n])
            weighted += weight_C[c] * error * error
        errors_R2[r, 0] = weighted
        errors_R2[r, 1] = plain
