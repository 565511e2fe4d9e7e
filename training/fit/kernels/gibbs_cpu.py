"""The heavy steps of the Gibbs sampler on the CPU, compiled by numba.

`gibbs_reference` says what each step computes; this module only computes it fast. Work is cut by the ratings alone,
never by the number of threads, so the results do not depend on it.
Shapes: R rows of one side, C of the other, N ratings, K table width (factors, then bias; a multiple of `LANES`),
S segments of at most `SEGMENT` ratings of one row, B the eight columns of a block. Names without a suffix are flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.fit.kernels.gibbs import Normal
from training.fit.kernels.grouping import Float32s, Int32s, Int64s, group
from training.fit.kernels.jit import kernel, run_tasks
from training.fit.kernels.simd import LANES, add_scaled, element, load, store, zero
from training.fit.kernels.tiles import BLOCK, Width, add_products, add_weighted, backward, factorize, forward

SEGMENT = 4096  # a longer row is summed in parts, so that one popular item occupies one thread for no longer than this
TASK = 32768  # ratings in a task: some milliseconds

Float64s = npt.NDArray[np.float64]


class CpuRows:
    """The ratings of one side, grouped by row (implements `gibbs.Rows`)."""

    def __init__(
        self,
        rows_N: Tensor,
        columns_N: Tensor,
        values_N: Tensor,
        *,
        rows: int,
        threads: int = 1,
        segment: int = SEGMENT,
    ) -> None:
        self._threads = threads
        grouped = group(rows_N.numpy(), columns_N.numpy(), values_N.numpy(), rows=rows, threads=threads)
        self._starts_R, self._columns_N, self._values_N = grouped
        self._cuts_S, self._segments_R = cut(self._starts_R, segment)
        self._segment_tasks = tasks_of(self._cuts_S)
        self._row_tasks = tasks_of(self._starts_R)

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        """See `gibbs_reference.ReferenceRows.gram`."""
        width, segments = other_CK.shape[1], len(self._cuts_S) - 1
        gram_SKK = np.empty((segments, width, width), np.float32)
        rhs_SK = np.empty((segments, width), np.float32)
        ratings = (self._cuts_S, self._columns_N, self._values_N)
        tables = _flat(other_CK, weight_C.sqrt())
        self._run(_gram, self._segment_tasks, (*ratings, *tables, _tiles(width), gram_SKK, rhs_SK))
        if segments > len(self._segments_R):
            gram_SKK = np.add.reduceat(gram_SKK, self._segments_R)
            rhs_SK = np.add.reduceat(rhs_SK, self._segments_R)
        return torch.from_numpy(gram_SKK), torch.from_numpy(rhs_SK)

    def draw(
        self, gram_RKK: Tensor, rhs_RK: Tensor, scale_R: Tensor, prior_RK: Tensor, precision_K: Tensor, noise_RK: Tensor
    ) -> Tensor:
        """See `gibbs_reference.ReferenceRows.draw`."""
        drawn_RK = torch.empty_like(prior_RK)
        tensors = (gram_RKK, rhs_RK, scale_R, prior_RK, precision_K, noise_RK, drawn_RK)
        floor = np.float32(precision_K.min())
        self._run(_draw, self._row_tasks, (*_flat(*tensors), floor, _tiles(prior_RK.shape[1])))
        return drawn_RK

    def implicit(
        self,
        share_C: Tensor,
        gram_CKK: Tensor,
        gradient_CK: Tensor,
        effect_RK: Tensor,
        precision_K: Tensor,
        normal: Normal,
        table_CK: Tensor,
        shift_CK: Tensor,
    ) -> None:
        """See `gibbs_reference.ReferenceRows.implicit`."""
        noise_RK, width = normal(*effect_RK.shape), effect_RK.shape[1]
        grams, gradients = _flat(gram_CKK, gradient_CK)
        for first in range(0, width, LANES):
            block = slice(first, first + LANES)
            gram_CBB = share_C.square()[:, None, None] * gram_CKK[:, block, block]
            gradient_CB = share_C[:, None] * gradient_CK[:, block]
            own_RB = (precision_K[block], noise_RK[:, block], effect_RK[:, block])
            step_CB = share_C[:, None] * self._effects_in_turn(gram_CBB, gradient_CB, *own_RB)
            table_CK[:, block] += step_CB
            shift_CK[:, block] += step_CB
            _follow(grams, step_CB.numpy(), gradients, first, width)

    def _effects_in_turn(
        self, gram_CBB: Tensor, gradient_CB: Tensor, precision_B: Tensor, noise_RB: Tensor, effect_RB: Tensor
    ) -> Tensor:
        """Overwrite the effects; return the sum of their changes for each column. Matrices come first, in parallel.

        The share is already in G and the gradients. Eight columns of all G fit into a second-level cache, which all
        columns do not: a pass over the ratings reads them in random order.
        """
        ratings, lower_RBB = (self._starts_R, self._columns_N), np.empty((len(effect_RB), LANES, LANES))
        sum_CB, precision = torch.zeros(len(gradient_CB), LANES), precision_B.numpy()
        gram, gradient, sums = _flat(gram_CBB, gradient_CB, sum_CB)
        self._run(_factors, self._row_tasks, (*ratings, gram, precision, lower_RBB))
        _implicit(*ratings, lower_RBB, gram, precision, noise_RB.numpy(), effect_RB.numpy(), gradient, sums)
        return sum_CB

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        """See `gibbs_reference.ReferenceRows.errors`."""
        errors_R2 = np.empty((len(own_RK), 2))
        ratings = (self._starts_R, self._columns_N, self._values_N)
        tables = _flat(own_RK, other_CK, weight_C)
        self._run(_errors, self._row_tasks, (*ratings, *tables, _tiles(own_RK.shape[1]), errors_R2))
        return torch.from_numpy(errors_R2)

    def sums(self, table_CK: Tensor) -> Tensor:
        """See `gibbs.SummingRows`."""
        sums_RK = torch.empty(len(self._starts_R) - 1, table_CK.shape[1])
        tables = _flat(table_CK.contiguous(), sums_RK)
        self._run(_sums, self._row_tasks, (self._starts_R, self._columns_N, *tables, _tiles(table_CK.shape[1])))
        return sums_RK

    def _run(self, function: Callable[..., Any], ranges: list[tuple[int, int]], arguments: tuple[Any, ...]) -> None:
        run_tasks(self._threads, function, [(*arguments, first, last) for first, last in ranges])


def _flat(*tensors: Tensor) -> tuple[Float32s, ...]:
    return tuple(tensor.view(-1).numpy() for tensor in tensors)


def _tiles(width: int) -> Width:
    return (0,) * (width // LANES)


def cut(starts_R: Int64s, segment: int) -> tuple[Int64s, Int64s]:
    """Cut each row into one or more segments: their boundaries (S+1,), and which is the first of each row (R,)."""
    counts_R = np.diff(starts_R)
    segments_R = np.maximum(1, -(-counts_R // segment))
    first_R = np.cumsum(segments_R) - segments_R
    row_S = np.repeat(np.arange(len(counts_R)), segments_R)
    place_S = np.arange(len(row_S)) - first_R[row_S]
    return np.append(starts_R[row_S] + place_S * segment, starts_R[-1:]), first_R


def tasks_of(starts_R: Int64s) -> list[tuple[int, int]]:
    """Cut rows into ranges of about `TASK` ratings, counting a row as 16 more."""
    work_R = starts_R + 16 * np.arange(len(starts_R))
    cuts = np.unique(np.append(np.searchsorted(work_R, np.arange(0, work_R[-1], TASK)), len(starts_R) - 1))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


@kernel
def _factorise(matrix_KK: Float64s, floor_K: Float32s) -> None:
    """Cholesky in place, lower triangle, of A + Λ with A positive semidefinite: no pivot can be below Λ's."""
    width = len(matrix_KK)
    for j in range(width):
        pivot = matrix_KK[j, j]
        for t in range(j):
            pivot -= matrix_KK[j, t] * matrix_KK[j, t]
        matrix_KK[j, j] = np.sqrt(max(pivot, floor_K[j]))
        for i in range(j + 1, width):
            total = matrix_KK[i, j]
            for t in range(j):
                total -= matrix_KK[i, t] * matrix_KK[j, t]
            matrix_KK[i, j] = total / matrix_KK[j, j]


@kernel
def _solve(lower_KK: npt.NDArray[Any], vector_K: Float64s, noise_K: Float32s) -> None:
    """(LLᵀ)⁻¹ v + L⁻ᵀ z in place of v: a draw from N((LLᵀ)⁻¹ v, (LLᵀ)⁻¹)."""
    width = len(vector_K)
    for i in range(width):
        total = vector_K[i]
        for t in range(i):
            total -= lower_KK[i, t] * vector_K[t]
        vector_K[i] = total / lower_KK[i, i]
    for i in range(width):
        vector_K[i] += noise_K[i]
    for i in range(width - 1, -1, -1):
        vector_K[i] /= lower_KK[i, i]
        for t in range(i):
            vector_K[t] -= lower_KK[i, t] * vector_K[i]


@kernel
def _gram(
    cuts_S: Int64s,
    columns_N: Int32s,
    values_N: Float32s,
    other: Float32s,
    root_C: Float32s,
    width: Width,
    gram_SKK: Float32s,
    rhs_SK: Float32s,
    first: int,
    last: int,
) -> None:
    K = LANES * len(width)
    block, targets = np.zeros(BLOCK * K, np.float32), np.zeros(BLOCK, np.float32)
    gram_SKK[first:last] = 0
    rhs_SK[first:last] = 0
    for s in range(first, last):
        gram = gram_SKK[s].reshape(-1)
        for position in range(cuts_S[s], cuts_S[s + 1], BLOCK):
            count = min(BLOCK, cuts_S[s + 1] - position)
            _copy_rows(other, root_C, width, columns_N, values_N, position, count, block, targets)
            for i in range(0, K, LANES):
                add_weighted(rhs_SK[s], block, targets, width, i)
                for j in range(i, K, LANES):
                    add_products(gram, block, block, count, width, i, j)
        for i in range(K):
            for j in range(i):
                gram[i * K + j] = gram[j * K + i]


@kernel
def _copy_rows(
    other: Float32s,
    root_C: Float32s,
    width: Width,
    columns_N: Int32s,
    values_N: Float32s,
    position: int,
    count: int,
    block: Float32s,
    targets: Float32s,
) -> None:
    """Write √w [factors, 1] of `count` ratings into `block` and √w (r − b) into `targets`, its rest 0."""
    K = LANES * len(width)
    for n in range(count):
        c = columns_N[position + n]
        root = root_C[c]
        for j in range(0, K, LANES):
            store(block, n * K + j, add_scaled(zero(), root, load(other, c * K + j)))
        targets[n] = root * (values_N[position + n] - other[c * K + K - 1])
        block[n * K + K - 1] = root
    targets[count:] = 0


@kernel
def _draw(
    gram_RKK: Float32s,
    rhs_RK: Float32s,
    scale_R: Float32s,
    prior_RK: Float32s,
    precision_K: Float32s,
    noise_RK: Float32s,
    drawn_RK: Float32s,
    floor: np.float32,
    width: Width,
    first: int,
    last: int,
) -> None:
    K = LANES * len(width)
    matrix, side, half = np.empty(K * K, np.float32), np.empty(K, np.float32), np.empty(K, np.float32)
    for r in range(first, last):
        gram, row = gram_RKK[r * K * K : (r + 1) * K * K], slice(r * K, (r + 1) * K)
        rhs, drawn = rhs_RK[row], drawn_RK[row]
        for i in range(0, K * K, LANES):
            scaled = add_scaled(zero(), scale_R[r], load(gram, i))
            store(gram, i, scaled)
            store(matrix, i, scaled)
        for a in range(K):
            rhs[a] *= scale_R[r]
            matrix[a * K + a] += precision_K[a]
            side[a] = rhs[a] + precision_K[a] * prior_RK[r * K + a]
        factorize(matrix, floor, width)
        forward(matrix, side, width, half)
        for a in range(K):
            half[a] += noise_RK[r * K + a]
        backward(matrix, half, width, drawn)
        for a in range(K):
            for j in range(0, K, LANES):
                store(rhs, j, add_scaled(load(rhs, j), -drawn[a], load(gram, a * K + j)))


@kernel
def _factors(
    starts_R: Int64s,
    columns_N: Int32s,
    gram: Float32s,
    precision_B: Float32s,
    lower_RBB: Float64s,
    first: int,
    last: int,
) -> None:
    """The Cholesky factors of Σ G + Λ over each row's ratings."""
    total = np.empty(LANES * LANES, np.float32)
    for r in range(first, last):
        _sum_matrices(gram, columns_N, starts_R[r], starts_R[r + 1], total)
        matrix = lower_RBB[r]
        for a in range(LANES):
            for b in range(LANES):
                matrix[a, b] = total[a * LANES + b]
            matrix[a, a] += precision_B[a]
        _factorise(matrix, precision_B)


@kernel
def _sum_matrices(gram: Float32s, columns_N: Int32s, start: int, stop: int, total: Float32s) -> None:
    one = np.float32(1)
    t0, t1, t2, t3, t4, t5, t6, t7 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
    for n in range(start, stop):
        o = columns_N[n] * LANES * LANES
        t0 = add_scaled(t0, one, load(gram, o))
        t1 = add_scaled(t1, one, load(gram, o + LANES))
        t2 = add_scaled(t2, one, load(gram, o + 2 * LANES))
        t3 = add_scaled(t3, one, load(gram, o + 3 * LANES))
        t4 = add_scaled(t4, one, load(gram, o + 4 * LANES))
        t5 = add_scaled(t5, one, load(gram, o + 5 * LANES))
        t6 = add_scaled(t6, one, load(gram, o + 6 * LANES))
        t7 = add_scaled(t7, one, load(gram, o + 7 * LANES))
    store(total, 0, t0)
    store(total, LANES, t1)
    store(total, 2 * LANES, t2)
    store(total, 3 * LANES, t3)
    store(total, 4 * LANES, t4)
    store(total, 5 * LANES, t5)
    store(total, 6 * LANES, t6)
    store(total, 7 * LANES, t7)


@kernel
def _implicit(
    starts_R: Int64s,
    columns_N: Int32s,
    lower_RBB: Float64s,
    gram: Float32s,
    precision_B: Float32s,
    noise_RB: Float32s,
    effect_RB: Float32s,
    gradient: Float32s,
    sums: Float32s,
) -> None:
    """Draw eight columns of each row's effect in turn; `sums` gets the changes of each column's effects."""
    slope, change, side = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES)
    one = np.float32(1)
    for r in range(len(effect_RB)):
        total = zero()
        for n in range(starts_R[r], starts_R[r + 1]):
            total = add_scaled(total, one, load(gradient, columns_N[n] * LANES))
        store(slope, 0, total)
        _times(lower_RBB[r], effect_RB[r], side)
        for a in range(LANES):
            side[a] += slope[a] - precision_B[a] * effect_RB[r, a]
        _solve(lower_RBB[r], side, noise_RB[r])
        for a in range(LANES):
            change[a] = side[a] - effect_RB[r, a]
            effect_RB[r, a] = side[a]
        for n in range(starts_R[r], starts_R[r + 1]):
            _take_step(columns_N[n], change, gram, gradient, sums)


@kernel
def _take_step(c: int, change: Float32s, gram: Float32s, gradient: Float32s, sums: Float32s) -> None:
    """Add the change of an effect to a column's sum, and update its gradient −= G · change."""
    at, o = c * LANES, c * LANES * LANES
    even, odd = load(gradient, at), zero()
    for a in range(0, LANES, 2):
        even = add_scaled(even, -element(change, a), load(gram, o + a * LANES))
        odd = add_scaled(odd, -element(change, a + 1), load(gram, o + a * LANES + LANES))
    one = np.float32(1)
    store(gradient, at, add_scaled(even, one, odd))
    store(sums, at, add_scaled(load(sums, at), one, load(change, 0)))


@kernel
def _follow(gram: Float32s, step_CB: Float32s, gradient: Float32s, first: int, width: int) -> None:
    """Update all gradients −= G · step, where only eight columns from `first` on have moved."""
    for c in range(len(step_CB)):
        for a in range(LANES):
            moved = -step_CB[c, a]
            o = (c * width + first + a) * width
            for j in range(0, width, LANES):
                at = c * width + j
                store(gradient, at, add_scaled(load(gradient, at), moved, load(gram, o + j)))


@kernel
def _times(lower_KK: Float64s, row_K: Float32s, product_K: Float64s) -> None:
    """L Lᵀ x."""
    width = len(row_K)
    half_K = np.zeros(width)
    for a in range(width):
        for b in range(a + 1):
            half_K[b] += lower_KK[a, b] * row_K[a]
    for a in range(width):
        product_K[a] = 0
        for b in range(a + 1):
            product_K[a] += lower_KK[a, b] * half_K[b]


@kernel
def _sums(
    starts_R: Int64s, columns_N: Int32s, table: Float32s, sums: Float32s, width: Width, first: int, last: int
) -> None:
    K, one = LANES * len(width), np.float32(1)
    for r in range(first, last):
        start, stop = starts_R[r], starts_R[r + 1]
        for j in range(0, K, LANES):
            even, odd = zero(), zero()
            for n in range(start, stop - 1, 2):
                even = add_scaled(even, one, load(table, columns_N[n] * K + j))
                odd = add_scaled(odd, one, load(table, columns_N[n + 1] * K + j))
            if (stop - start) % 2:
                even = add_scaled(even, one, load(table, columns_N[stop - 1] * K + j))
            store(sums, r * K + j, add_scaled(even, one, odd))


@kernel
def _errors(
    starts_R: Int64s,
    columns_N: Int32s,
    values_N: Float32s,
    own: Float32s,
    other: Float32s,
    weight_C: Float32s,
    width: Width,
    errors_R2: Float64s,
    first: int,
    last: int,
) -> None:
    K = LANES * len(width)
    row = np.empty(K, np.float32)
    for r in range(first, last):
        weighted, plain = 0.0, 0.0
        row[:] = own[r * K : (r + 1) * K]
        bias, row[K - 1] = row[K - 1], 1
        for n in range(starts_R[r], starts_R[r + 1]):
            c = columns_N[n]
            predicted = np.float32(0)
            for a in range(K):
                predicted += element(row, a) * element(other, c * K + a)
            error = np.float64(values_N[n] - bias - predicted)
            weighted += weight_C[c] * error * error
            plain += error * error
        errors_R2[r, 0] = weighted
        errors_R2[r, 1] = plain


def padded_width(factors: int) -> int:
    """The least table width that has room for the factors and the bias and is a multiple of `LANES`."""
    return -(-(factors + 1) // LANES) * LANES


def warm_up(width: int) -> None:
    """Compile the kernels for that width, or load them from disk (see `training.fit.kernels.jit`)."""
    index_N = torch.zeros(1, dtype=torch.int32)
    rows = CpuRows(index_N, index_N, torch.zeros(1), rows=1)
    one_1, table_1K, ones_K = torch.ones(1), torch.zeros(1, width), torch.ones(width)
    gram_1KK, rhs_1K = rows.gram(table_1K, one_1)
    rows.draw(gram_1KK, rhs_1K, one_1, table_1K, ones_K, table_1K)
    rows.implicit(one_1, gram_1KK, rhs_1K, table_1K, ones_K, torch.zeros, table_1K.clone(), table_1K.clone())
    rows.errors(table_1K, table_1K, one_1)
    rows.sums(table_1K)
