"""The metrics, as pure functions of predictions and ratings. They do not know models or splits.

Shapes: N test ratings, B users, I items, K list length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mse(predicted_N: Tensor, actual_N: Tensor) -> float:
    """Mean squared error, in squared rating units."""
    return float((predicted_N - actual_N).double().square().mean())


def rmse(predicted_N: Tensor, actual_N: Tensor) -> float:
    """Root of the mean squared error, in rating units."""
    return math.sqrt(mse(predicted_N, actual_N))


def mae(predicted_N: Tensor, actual_N: Tensor) -> float:
    """Mean absolute error, in rating units."""
    return float((predicted_N - actual_N).double().abs().mean())


def user_rmse(predicted_N: Tensor, actual_N: Tensor, users_N: Tensor) -> float:
    """Mean over users of each user's RMSE, so that a heavy rater counts like any other."""
    squared_N = (predicted_N - actual_N).double().square()
    _, user_of_N, counts_U = users_N.unique(return_inverse=True, return_counts=True)
    sums_U = torch.zeros_like(counts_U, dtype=torch.float64).index_add_(0, user_of_N, squared_N)
    return float((sums_U / counts_U).sqrt().mean())


def coverage(low_N: Tensor, high_N: Tensor, actual_N: Tensor) -> float:
    """Share of ratings within their intervals, the ends included."""
    return float(((low_N <= actual_N) & (actual_N <= high_N)).double().mean())


def nll(predicted_N: Tensor, variance_N: Tensor, actual_N: Tensor) -> float:
    """Mean negative log-likelihood of the ratings under N(predicted, variance), in nats."""
    variance_N = variance_N.double()
    squared_N = (predicted_N - actual_N).double().square()
    return float(((2 * math.pi * variance_N).log() + squared_N / variance_N).mean() / 2)


def ndcg(hits_BK: Tensor, relevant_B: Tensor) -> Tensor:
    """Normalised discounted cumulative gain of each list, with binary relevance; float64, shape (B,).

    Järvelin and Kekäläinen 2002, with log₂ discounts and the ideal list cut at K. `hits_BK` (bool) is whether the item
    at each position is relevant, `relevant_B` how many items are relevant to each user, at least 1.
    """
    length = hits_BK.shape[1]
    discount_K = 1 / torch.arange(2, length + 2, dtype=torch.float64, device=hits_BK.device).log2()
    ideal_K = discount_K.cumsum(0)
    return (hits_BK.double() @ discount_K) / ideal_K[relevant_B.clamp(max=length) - 1]


def recall(hits_BK: Tensor, relevant_B: Tensor) -> Tensor:
    """Share of each user's relevant items that the list holds; float64, shape (B,). Arguments as in `ndcg`."""
    return hits_BK.sum(1).double() / relevant_B
