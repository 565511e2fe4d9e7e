"""The half-step of biased ALS as its formula says, in float64: what the CPU and CUDA kernels are tested against.

Shapes: R rows, C columns of the rating matrix, N ratings, K width of a table (factors, perhaps zeros, bias last).
"""

from __future__ import annotations

import torch
from torch import Tensor


def solve_rows(
    rows_N: Tensor, columns_N: Tensor, values_N: Tensor, other_CK: Tensor, ridge_R: Tensor, bias_ridge: float
) -> tuple[Tensor, Tensor]:
    """For each row r minimise Σ (z − [p, b]·[q_c, 1] − b_c)² + ridge_r |p|² + bias_ridge b² over its ratings.

    The regularised least squares step of Zhou, Wilkinson, Schreiber and Pan 2008 (section 3.1), the row's bias being
    one more unknown whose feature is 1.

    Returns:
        The rows [p, b] (R, K), and Σ (z − ẑ)² over all ratings.
    """
    other_CK = other_CK.double()
    rows, K = len(ridge_R), other_CK.shape[1]
    features_CK = other_CK.clone()
    features_CK[:, -1] = 1
    out_RK = torch.zeros(rows, K, dtype=torch.float64)
    squared_error = torch.zeros((), dtype=torch.float64)
    for row in range(rows):
        mine = rows_N == row
        a_NK = features_CK[columns_N[mine]]
        targets_N = values_N[mine].double() - other_CK[columns_N[mine], -1]
        penalty_K = torch.full((K,), float(ridge_R[row]), dtype=torch.float64)
        penalty_K[-1] = bias_ridge
        out_RK[row] = torch.linalg.solve(a_NK.T @ a_NK + penalty_K.diag(), a_NK.T @ targets_N)
        squared_error += (targets_N - a_NK @ out_RK[row]).square().sum()
    return out_RK, squared_error
