"""The half-step of ALS as its formula says, in float64: what the CPU and CUDA kernels are tested against.

Shapes: R rows, C columns of the rating matrix, N ratings, K width of a table (factors, perhaps zeros, bias last if
there is one).
"""

from __future__ import annotations

import torch
from torch import Tensor


def solve_rows(
    rows_N: Tensor,
    columns_N: Tensor,
    values_N: Tensor,
    other_CK: Tensor,
    ridge_R: Tensor,
    bias_ridge: float | None,
    prior_KK: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """For each row r minimise Σ (z − [p, b]·[q_c, 1] − b_c)² + ridge_r |p|² + bias_ridge b² over its ratings.

    The regularised least squares step of Zhou, Wilkinson, Schreiber and Pan 2008 (section 3.1), the row's bias being
    one more unknown whose feature is 1. With `bias_ridge` None there are no biases and x·q_c stands for ẑ; with a prior
    Gram matrix A, xᵀ A x is a part of the error (Hu, Koren and Volinsky 2008, section 4, where A is YᵀY).

    Returns:
        The rows [p, b] (R, K), and Σ (z − ẑ)² over all ratings, and Σ xᵀ A x over all rows.
    """
    other_CK = other_CK.double()
    rows, K = len(ridge_R), other_CK.shape[1]
    features_CK, bias_C = other_CK.clone(), other_CK[:, -1]
    if bias_ridge is None:
        bias_C = torch.zeros_like(bias_C)
    else:
        features_CK[:, -1] = 1
    prior_KK = torch.zeros(K, K) if prior_KK is None else prior_KK
    out_RK = torch.zeros(rows, K, dtype=torch.float64)
    squared_error = torch.zeros((), dtype=torch.float64)
    for row in range(rows):
        mine = rows_N == row
        a_NK = features_CK[columns_N[mine]]
        targets_N = values_N[mine].double() - bias_C[columns_N[mine]]
        penalty_K = torch.full((K,), float(ridge_R[row]), dtype=torch.float64)
        if bias_ridge is not None:
            penalty_K[-1] = bias_ridge
        x_K = torch.linalg.solve(prior_KK.double() + a_NK.T @ a_NK + penalty_K.diag(), a_NK.T @ targets_N)
        squared_error += (targets_N - a_NK @ x_K).square().sum() + x_K @ prior_KK.double() @ x_K
        out_RK[row] = x_K
    return out_RK, squared_error
