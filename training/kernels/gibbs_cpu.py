"""The heavy steps of the Gibbs sampler on the CPU, compiled by numba.

`gibbs_reference` says what each step computes; this module only computes it fast. Work is cut by the ratings alone,
never by the number of threads, so the results do not depend on it.
Shapes: R rows of one side, C of the other, N ratings, K table width (factors, then bias; a multiple of `LANES`),
S segments of at most `SEGMENT` ratings of one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.kernels.gibbs import Normal
from training.kernels.jit import kernel, run_tasks
from training.kernels.simd import LANES, add_scaled, element, load, store

SEGMENT = 4096  # a longer row is summed in parts, so that one popular item occupies one thread for no longer than this
TASK = 32768  # ratings in a task: some milliseconds
UNROLL = 8  # ratings added to a Gram matrix at a time: it is read and written an eighth as often

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
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
        self._starts_R, self._columns_N, self._values_N = group(
            rows_N.numpy(), columns_N.numpy(), values_N.numpy(), rows
        )
        self._cuts_S, self._segments_R = cut(self._starts_R, segment)
        self._segment_tasks = tasks_of(self._cuts_S)
        self._row_tasks = tasks_of(self._starts_R)

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        """See `gibbs_reference.ReferenceRows.gram`."""
        width, segments = other_CK.shape[1], len(self._cuts_S) - 1
        gram_SKK = np.empty((segments, width, width), np.float32)
        rhs_SK = np.empty((segments, width), np.float32)
        data = (self._cuts_S, self._columns_N, self._values_N, other_CK.numpy(), weight_C.numpy(), gram_SKK, rhs_SK)
        self._run(_gram, self._segment_tasks, data)
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
        self._run(_draw, self._row_tasks, tuple(tensor.numpy() for tensor in tensors))
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
        """See `gibbs_reference.ReferenceRows.implicit`. Matrices come first, in parallel; then draw follows draw."""
        rows, width = effect_RK.shape
        lower_RKK = np.empty((rows, width, width), np.float32)
        ratings = (self._starts_R, self._columns_N, share_C.numpy())
        factorise = (*ratings, gram_CKK.numpy(), precision_K.numpy(), lower_RKK)
        self._run(_factors, self._row_tasks, factorise)
        tensors = (gram_CKK, gradient_CK, precision_K, normal(rows, width), effect_RK, table_CK, shift_CK)
        _implicit(*ratings, lower_RKK, *(tensor.numpy() for tensor in tensors))

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        """See `gibbs_reference.ReferenceRows.errors`."""
        errors_R2 = np.empty((len(own_RK), 2))
        data = (self._starts_R, self._columns_N, self._values_N, own_RK.numpy(), other_CK.numpy(), weight_C.numpy())
        self._run(_errors, self._row_tasks, (*data, errors_R2))
        return torch.from_numpy(errors_R2)

    def _run(self, function: Callable[..., Any], ranges: list[tuple[int, int]], arguments: tuple[Any, ...]) -> None:
        run_tasks(self._threads, function, [(*arguments, first, last) for first, last in ranges])


def group(rows_N: Int32s, columns_N: Int32s, values_N: Float32s, rows: int) -> tuple[Int64s, Int32s, Float32s]:
    """Compressed sparse rows: starts (R+1,), columns (N,), values (N,), the order within a row kept."""
    starts_R = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(rows_N, minlength=rows), out=starts_R[1:])
    order_N = np.argsort(rows_N, kind="stable")
    return starts_R, columns_N[order_N], values_N[order_N]


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
    other_CK: Float32s,
    weight_C: Float32s,
    gram_SKK: Float32s,
    rhs_SK: Float32s,
    first: int,
    last: int,
) -> None:
    width = other_CK.shape[1]
    vector = np.zeros(UNROLL * width, np.float32)
    scaled = np.zeros(UNROLL * width, np.float32)
    value = np.zeros(UNROLL, np.float32)
    gram_SKK[first:last] = 0
    rhs_SK[first:last] = 0
    for s in range(first, last):
        for n in range(cuts_S[s], cuts_S[s + 1], UNROLL):
            scaled[:] = 0
            for d in range(min(UNROLL, cuts_S[s + 1] - n)):
                c = columns_N[n + d]
                _copy_vector(other_CK[c], weight_C[c], vector[d * width :], scaled[d * width :])
                value[d] = values_N[n + d] - other_CK[c, width - 1]
            _add_products(vector, scaled, value, gram_SKK[s].reshape(-1), rhs_SK[s])


@kernel
def _copy_vector(row_K: Float32s, weight: np.float32, vector: Float32s, scaled: Float32s) -> None:
    """Write [factors, 1] of a row, and the same times the weight, to the start of two arrays."""
    bias = len(row_K) - 1
    for a in range(bias):
        vector[a] = row_K[a]
        scaled[a] = weight * row_K[a]
    vector[bias] = 1
    scaled[bias] = weight


@kernel
def _add_products(vector: Float32s, scaled: Float32s, value: Float32s, gram: Float32s, rhs_K: Float32s) -> None:
    """Add `UNROLL` products of vectors and of a vector with a value."""
    width = len(rhs_K)
    for d in range(UNROLL):
        for a in range(width):
            rhs_K[a] += scaled[d * width + a] * value[d]
    for a in range(width):
        for b in range(0, width, LANES):
            total = load(gram, a * width + b)
            for d in range(UNROLL):
                total = add_scaled(total, element(scaled, d * width + a), load(vector, d * width + b))
            store(gram, a * width + b, total)


@kernel
def _draw(
    gram_RKK: Float32s,
    rhs_RK: Float32s,
    scale_R: Float32s,
    prior_RK: Float32s,
    precision_K: Float32s,
    noise_RK: Float32s,
    drawn_RK: Float32s,
    first: int,
    last: int,
) -> None:
    width = prior_RK.shape[1]
    matrix = np.empty((width, width))
    vector = np.empty(width)
    for r in range(first, last):
        for a in range(width):
            for b in range(width):
                gram_RKK[r, a, b] *= scale_R[r]
                matrix[a, b] = gram_RKK[r, a, b]
            rhs_RK[r, a] *= scale_R[r]
            matrix[a, a] += precision_K[a]
            vector[a] = rhs_RK[r, a] + precision_K[a] * prior_RK[r, a]
        _factorise(matrix, precision_K)
        _solve(matrix, vector, noise_RK[r])
        for a in range(width):
            drawn_RK[r, a] = vector[a]
            for b in range(width):
                rhs_RK[r, b] -= gram_RKK[r, a, b] * vector[a]


@kernel
def _factors(
    starts_R: Int64s,
    columns_N: Int32s,
    share_C: Float32s,
    gram_CKK: Float32s,
    precision_K: Float32s,
    lower_RKK: Float32s,
    first: int,
    last: int,
) -> None:
    """The Cholesky factors of Σ share² G + Λ over each row's ratings."""
    width = len(precision_K)
    total = np.empty(width * width, np.float32)
    matrix = np.empty((width, width))
    grams = gram_CKK.reshape(-1)
    for r in range(first, last):
        total[:] = 0
        for n in range(starts_R[r], starts_R[r + 1]):
            c = columns_N[n]
            squared = share_C[c] * share_C[c]
            for b in range(0, width * width, LANES):
                store(total, b, add_scaled(load(total, b), squared, load(grams, c * width * width + b)))
        for a in range(width):
            for b in range(width):
                matrix[a, b] = total[a * width + b]
            matrix[a, a] += precision_K[a]
        _factorise(matrix, precision_K)
        for a in range(width):
            for b in range(width):
                lower_RKK[r, a, b] = matrix[a, b]


@kernel
def _implicit(
    starts_R: Int64s,
    columns_N: Int32s,
    share_C: Float32s,
    lower_RKK: Float32s,
    gram_CKK: Float32s,
    gradient_CK: Float32s,
    precision_K: Float32s,
    noise_RK: Float32s,
    effect_RK: Float32s,
    table_CK: Float32s,
    shift_CK: Float32s,
) -> None:
    width = len(precision_K)
    gradient = np.empty(width, np.float32)
    side = np.empty(width)
    change = np.empty(width, np.float32)
    grams = gram_CKK.reshape(-1)
    for r in range(len(effect_RK)):
        gradient[:] = 0
        for n in range(starts_R[r], starts_R[r + 1]):
            c = columns_N[n]
            for a in range(width):
                gradient[a] += share_C[c] * gradient_CK[c, a]
        _times(lower_RKK[r], effect_RK[r], side)
        for a in range(width):
            side[a] += gradient[a] - precision_K[a] * effect_RK[r, a]
        _solve(lower_RKK[r], side, noise_RK[r])
        for a in range(width):
            change[a] = side[a] - effect_RK[r, a]
            effect_RK[r, a] = side[a]
        for n in range(starts_R[r], starts_R[r + 1]):
            c = columns_N[n]
            _take_step(share_C[c], change, grams[c * width * width :], gradient_CK[c], table_CK[c], shift_CK[c])


@kernel
def _take_step(
    share: np.float32, change_K: Float32s, gram: Float32s, gradient_K: Float32s, row_K: Float32s, shift_K: Float32s
) -> None:
    """Add share · change to a row of the table and to its shift, and update its gradient −= G · share · change."""
    width = len(change_K)
    for a in range(width):
        row_K[a] += share * change_K[a]
        shift_K[a] += share * change_K[a]
    for b in range(0, width, LANES):
        total = load(gradient_K, b)
        for a in range(width):
            total = add_scaled(total, -share * element(change_K, a), load(gram, a * width + b))
        store(gradient_K, b, total)


@kernel
def _times(lower_KK: Float32s, row_K: Float32s, product_K: Float64s) -> None:
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
def _errors(
    starts_R: Int64s,
    columns_N: Int32s,
    values_N: Float32s,
    own_RK: Float32s,
    other_CK: Float32s,
    weight_C: Float32s,
    errors_R2: Float64s,
    first: int,
    last: int,
) -> None:
    bias = own_RK.shape[1] - 1
    for r in range(first, last):
        weighted, plain = 0.0, 0.0
        for n in range(starts_R[r], starts_R[r + 1]):
            c = columns_N[n]
            error = values_N[n] - other_CK[c, bias] - own_RK[r, bias]
            for a in range(bias):
                error -= own_RK[r, a] * other_CK[c, a]
            weighted += weight_C[c] * error * error
            plain += error * error
        errors_R2[r, 0] = weighted
        errors_R2[r, 1] = plain


def padded_width(factors: int) -> int:
    """The least table width that has room for the factors and the bias and is a multiple of `LANES`."""
    return -(-(factors + 1) // LANES) * LANES


def warm_up() -> None:
    """Compile the kernels, or load them from disk (see `training.kernels.jit`)."""
    index_N, width = torch.zeros(1, dtype=torch.int32), LANES
    rows = CpuRows(index_N, index_N, torch.zeros(1), rows=1)
    one_1, table_1K, ones_K = torch.ones(1), torch.zeros(1, width), torch.ones(width)
    gram_1KK, rhs_1K = rows.gram(table_1K, one_1)
    rows.draw(gram_1KK, rhs_1K, one_1, table_1K, ones_K, table_1K)
    rows.implicit(one_1, gram_1KK, rhs_1K, table_1K, ones_K, torch.zeros, table_1K.clone(), table_1K.clone())
    rows.errors(table_1K, table_1K, one_1)
