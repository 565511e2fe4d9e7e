"""The half-step of ALS as its formula says, in float64: what the CPU and CUDA kernels are tested against.

Shapes: R rows, C columns of the rating matrix, N ratings, K width of a table (factors, perhaps zeros, bias last if
there is one).
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.fit.kernels.als_rows import HalfStep


def solve_rows(rows_N: Tensor, columns_N: Tensor, values_N: Tensor, step: HalfStep) -> tuple[Tensor, Tensor]:
    """For each row r minimise Σ (z − [p, b]·[q_c, 1] − b_c)² + ridge_r |p|² + bias_ridge b² over its ratings.

    The regularised least squares step of Zhou, Wilkinson, Schreiber and Pan 2008 (section 3.1), the row's bias being
    one more unknown whose feature is 1. Without biases x·q_c stands for ẑ; with a prior Gram matrix A, xᵀ A x is a part
    of the error (Hu, Koren and Volinsky 2008, section 4, where A is YᵀY).

    Returns:
        The rows [p, b] (R, K), and Σ (z − ẑ)² over all ratings plus Σ xᵀ A x over all rows.
    """
    features_CK = step.other_CK.double().clone()
    rows, K = len(step.ridge_R), features_CK.shape[1]
    bias_C = features_CK.new_zeros(len(features_CK))
    if step.biased:
        bias_C = features_CK[:, -1].clone()
        features_CK[:, -1] = 1
    prior_KK = torch.zeros(K, K) if step.prior_KK is None else step.prior_KK
    out_RK = torch.zeros(rows, K, dtype=torch.float64)
    squared_error = torch.zeros((), dtype=torch.float64)
    for row in range(rows):
        mine = rows_N == row
        a_NK = features_CK[columns_N[mine]]
        targets_N = values_N[mine].double() - bias_C[columns_N[mine]]
        penalty_K = torch.full((K,), float(step.ridge_R[row]), dtype=torch.float64)
        if step.bias_ridge is not None:
            penalty_K[-1] = step.bias_ridge
        x_K = torch.linalg.solve(prior_KK.double() + a_NK.T @ a_NK + penalty_K.diag(), a_NK.T @ targets_N)
        squared_error += (targets_N - a_NK @ x_K).square().sum() + x_K @ prior_KK.double() @ x_K
        out_RK[row] = x_K
    return out_RK, squared_error
