"""Alternating least squares on whichever device the ratings are; on CUDA in batched torch operations.

There a sweep is a fixed list of batched products and Cholesky factorizations: it never asks the device for a value.
Shapes: R rows, N ratings, K width of a table, B rows of a bucket, S of a packed row of sums.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.fit.kernels.als_cpu import CpuRows
from training.fit.kernels.als_rows import HalfStep, Rows, packed_width
from training.fit.kernels.buckets import BATCH_ELEMENTS, Features, buckets
from training.fit.kernels.grouping import Triplets, group


def group_rows(ratings: Triplets, *, width: int, scale: float, shift: float = 0.0) -> Rows:
    """The ratings grouped by row, each as (value − shift) · scale; `width` is that of the tables."""
    if ratings.values_N.device.type != "cpu":
        return TorchRows(ratings._replace(values_N=((ratings.values_N - shift) * scale).float()), width)
    threads = torch.get_num_threads()
    grouped = group(ratings, threads)
    values_N = grouped.values_N
    values_N -= np.float32(shift)  # in place and by one thread: those of torch would wait for one another
    values_N *= np.float32(scale)
    return CpuRows(grouped, threads)


class TorchRows:
    """The ratings of one side grouped by row and put into buckets (implements `als_rows.Rows`)."""

    def __init__(self, ratings: Triplets, width: int) -> None:
        self._rows = ratings.rows
        self.buckets = list(buckets(ratings, width))

    def solve(self, step: HalfStep, out_RK: Tensor) -> Tensor:
        features = Features.of(step.other_CK, biased=step.biased)
        error = out_RK.new_zeros(())
        for bucket in self.buckets:
            error += _solve(*bucket.sums(features), step, bucket.rows_B, out_RK)
        return error

    def sums(self, step: HalfStep) -> Tensor:
        features, K = Features.of(step.other_CK, biased=step.biased), step.other_CK.shape[1]
        i, j = torch.triu_indices(K, K, device=step.other_CK.device)
        sums_RS = step.other_CK.new_zeros(self._rows, packed_width(K))
        for bucket in self.buckets:
            gram_BKK, weighted_BK, squares_B = bucket.sums(features)
            sums_RS[bucket.rows_B] = torch.cat([gram_BKK[:, i, j], weighted_BK, squares_B[:, None]], dim=1)
        return sums_RS

    def solve_sums(self, sums_RS: Tensor, step: HalfStep, out_RK: Tensor) -> Tensor:
        K = out_RK.shape[1]
        i, j = torch.triu_indices(K, K, device=out_RK.device)
        error = out_RK.new_zeros(())
        for rows_B in torch.arange(len(out_RK), device=out_RK.device).split(max(1, BATCH_ELEMENTS // K**2)):
            upper_BS, weighted_BK, squares_B1 = sums_RS[rows_B].split([len(i), K, 1], dim=1)
            gram_BKK = upper_BS.new_empty(len(rows_B), K, K)
            gram_BKK[:, i, j] = gram_BKK[:, j, i] = upper_BS
            error += _solve(gram_BKK, weighted_BK, squares_B1[:, 0], step, rows_B, out_RK)
        return error


def _solve(
    gram_BKK: Tensor, weighted_BK: Tensor, squares_B: Tensor, step: HalfStep, rows_B: Tensor, out_RK: Tensor
) -> Tensor:
    """Solve rows from their sums, of which the Gram matrices are overwritten; return their error."""
    penalty_BK = step.ridge_R[rows_B, None].repeat(1, gram_BKK.shape[1])
    if step.bias_ridge is not None:
        penalty_BK[:, -1] = step.bias_ridge
    if step.prior_KK is not None:
        gram_BKK += step.prior_KK
    gram_BKK.diagonal(dim1=-2, dim2=-1).add_(penalty_BK)
    factor_BKK = torch.linalg.cholesky_ex(gram_BKK).L
    x_BK = torch.cholesky_solve(weighted_BK[..., None], factor_BKK).squeeze(-1)
    out_RK[rows_B] = x_BK
    return (squares_B - (x_BK * (weighted_BK + penalty_BK * x_BK)).sum(1)).sum()
