"""Half a sweep of ALS on the CPU for rows of few ratings that share a prior: (A + d 1 + Σ a aᵀ) x = Σ t a.

A is the same for all rows, so one eigendecomposition A = Q Λ Qᵀ turns A + d 1 into a diagonal for each of them. What is
left has the size of the ratings n of a row (Woodbury 1950): with the ratings' rows V = [aᵀ Q], D = Λ + d 1,

    x = Q D⁻¹ Vᵀ (1 + V D⁻¹ Vᵀ)⁻¹ t

That takes n² K operations in place of K³/3 + n K². Of a million items most have a few ratings.
Shapes as in `als_rows`. Tables are flat arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.grouping import Grouped
from training.fit.kernels.jit import Float32s, kernel
from training.fit.kernels.tiles import flat

SHARE = 3  # of the width: rows of up to a third as many ratings are solved here, in a third of the operations


def solve_short_rows(ratings: Grouped, step: HalfStep, run: Callable[..., list[float]], out_RK: Tensor) -> float:
    """Solve the rows of few ratings, where the others of `out_RK` stay as they are; return their error."""
    assert step.prior_KK is not None  # noqa: S101 - the caller's condition
    width = out_RK.shape[1]
    values_K, vectors_KK = torch.linalg.eigh(step.prior_KK.double())
    values_K, vectors_KK = values_K.clamp(min=0).float(), vectors_KK.float()
    rotated_CK = step.other_CK @ vectors_KK
    rows_S = np.flatnonzero(ratings.counts_R <= width // SHARE)
    rotated_SK = torch.empty(len(rows_S), width)
    place_R = np.full(len(ratings.counts_R), -1)
    place_R[rows_S] = np.arange(len(rows_S))
    error = sum(run(_solve, flat(rotated_CK), ratings, flat(values_K), flat(step.ridge_R), place_R, flat(rotated_SK)))
    out_RK[torch.from_numpy(rows_S)] = rotated_SK @ vectors_KK.T
    return error


@kernel
def _solve(
    other: Float32s,
    ratings: Grouped,
    values_K: Float32s,
    ridge_R: Float32s,
    place_R: Any,
    out: Float32s,
    first: int,
    last: int,
) -> float:
    """Solve those of the rows that have a place in `out`. Returns their Σ t² − xᵀ Σ t a − d xᵀ x."""
    K = len(values_K)
    most = K // SHARE
    own, scaled, inverse = np.empty((most, K), np.float32), np.empty((most, K), np.float32), np.empty(K, np.float32)
    lower, y = np.empty((most, most), np.float32), np.empty(most, np.float32)
    error = 0.0
    for row in range(first, last):
        if place_R[row] >= 0:
            start, stop = ratings.starts_R[row], ratings.starts_R[row + 1]
            inverse[:] = 1 / (values_K + ridge_R[row])
            x = out[place_R[row] * K : (place_R[row] + 1) * K]
            _prepare(other, ratings.columns_N[start:stop], inverse, own, scaled, lower)
            y[: stop - start] = ratings.values_N[start:stop]
            _solve_in_place(lower, y, stop - start)
            x[:] = 0
            for a in range(stop - start):
                for k in range(K):
                    x[k] += scaled[a, k] * y[a]
            error += _error(own, ratings.values_N[start:stop], ridge_R[row], x)
    return error


@kernel
def _prepare(other: Float32s, columns_M: Any, inverse: Float32s, own: Any, scaled: Any, lower: Any) -> None:
    """V, V D⁻¹ and the lower triangle of 1 + V D⁻¹ Vᵀ of a row of M ratings."""
    K = len(inverse)
    for a in range(len(columns_M)):
        c = columns_M[a]
        own[a] = other[c * K : (c + 1) * K]
        for k in range(K):
            scaled[a, k] = own[a, k] * inverse[k]
        for b in range(a + 1):
            total = np.float32(1) if a == b else np.float32(0)
            for k in range(K):
                total += scaled[a, k] * own[b, k]
            lower[a, b] = total


@kernel
def _error(own: Any, targets_M: Float32s, ridge: np.float32, x: Float32s) -> float:
    error = np.float32(0)
    for a in range(len(targets_M)):
        fitted = np.float32(0)
        for k in range(len(x)):
            fitted += own[a, k] * x[k]
        error += targets_M[a] * (targets_M[a] - fitted)
    for k in range(len(x)):
        error -= ridge * x[k] * x[k]
    return float(max(error, np.float32(0)))


@kernel
def _solve_in_place(matrix: Any, vector: Float32s, n: int) -> None:
    """Solve an n × n system by Cholesky; of the matrix the lower triangle is read, and overwritten."""
    for j in range(n):
        pivot = matrix[j, j]
        for t in range(j):
            pivot -= matrix[j, t] * matrix[j, t]
        matrix[j, j] = np.sqrt(max(pivot, np.float32(1)))  # 1 is the least eigenvalue
        for i in range(j + 1, n):
            total = matrix[i, j]
            for t in range(j):
                total -= matrix[i, t] * matrix[j, t]
            matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        total = vector[i]
        for t in range(i):
            total -= matrix[i, t] * vector[t]
        vector[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = vector[i]
        for t in range(i + 1, n):
            total -= matrix[t, i] * vector[t]
        vector[i] = total / matrix[i, i]
