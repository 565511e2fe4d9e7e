"""One half-step of ALS in batched torch operations, for CUDA; the mathematics is that of `als_cpu`.

Rows are put into buckets of about equal degree, padded to it; a row longer than a segment is cut into several of them.
A sweep is then a fixed list of batched products and Cholesky factorizations: it never asks the device for a value.

Shapes: R rows, C columns of the rating matrix, N ratings, K width, S segments in a bucket, L their padded length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SEGMENT = 1024  # longest padded length; longer rows are cut
BATCH_ELEMENTS = 1 << 26  # of gathered features at a time: 256 MB


@dataclass(frozen=True, slots=True)
class Bucket:
    """Whole rows of about equal degree, in segments of equal length. Padding points to column C, whose features are 0.

    Attributes:
        rows_B: the rows.
        owners_S: position in `rows_B` of the row that each segment is part of.
        columns_SL: int32.
        values_SL: float32, 0 in the padding.
    """

    rows_B: Tensor
    owners_S: Tensor
    columns_SL: Tensor
    values_SL: Tensor


class TorchRows:
    """The ratings of one side grouped by row and put into buckets, ready to be solved again and again."""

    def __init__(
        self, rows_N: Tensor, columns_N: Tensor, values_N: Tensor, *, rows: int, columns: int, width: int
    ) -> None:
        order_N = torch.argsort(rows_N, stable=True)
        counts_R = torch.bincount(rows_N, minlength=rows)
        self.buckets = list(_buckets(counts_R, columns_N[order_N], values_N[order_N], columns, width))

    def solve(
        self,
        other_CK: Tensor,
        ridge_R: Tensor,
        bias_ridge: float | None,
        out_RK: Tensor,
        prior_KK: Tensor | None = None,
    ) -> Tensor:
        """See `als_rows.Rows`."""
        features_CK = torch.cat([other_CK, other_CK.new_zeros(1, other_CK.shape[1])])
        bias_C = features_CK.new_zeros(len(features_CK))
        penalty_RK = ridge_R[:, None].repeat(1, features_CK.shape[1])
        if bias_ridge is not None:
            bias_C = features_CK[:, -1].clone()
            features_CK[:-1, -1] = 1
            penalty_RK[:, -1] = bias_ridge
        error = other_CK.new_zeros(())
        for bucket in self.buckets:
            error += _solve_bucket(bucket, features_CK, bias_C, penalty_RK, prior_KK, out_RK)
        return error


def _solve_bucket(
    bucket: Bucket,
    features_CK: Tensor,
    bias_C: Tensor,
    penalty_RK: Tensor,
    prior_KK: Tensor | None,
    out_RK: Tensor,
) -> Tensor:
    a_SLK = features_CK[bucket.columns_SL]
    padding_SL = bucket.columns_SL == len(features_CK) - 1
    targets_SL = (bucket.values_SL - bias_C[bucket.columns_SL]).masked_fill(padding_SL, 0)
    gram_BKK = _sum_by_owner(bucket, a_SLK.mT @ a_SLK)
    weighted_BK = _sum_by_owner(bucket, (a_SLK.mT @ targets_SL[..., None]).squeeze(-1))
    squares = targets_SL.square().sum()
    penalty_BK = penalty_RK[bucket.rows_B]
    if prior_KK is not None:
        gram_BKK += prior_KK
    gram_BKK.diagonal(dim1=-2, dim2=-1).add_(penalty_BK)
    factor_BKK = torch.linalg.cholesky_ex(gram_BKK).L
    x_BK = torch.cholesky_solve(weighted_BK[..., None], factor_BKK).squeeze(-1)
    out_RK[bucket.rows_B] = x_BK
    return squares - (x_BK * (weighted_BK + penalty_BK * x_BK)).sum()


def _sum_by_owner(bucket: Bucket, parts_S: Tensor) -> Tensor:
    if len(bucket.owners_S) == len(bucket.rows_B):
        return parts_S
    return parts_S.new_zeros(len(bucket.rows_B), *parts_S.shape[1:]).index_add_(0, bucket.owners_S, parts_S)


def _buckets(counts_R: Tensor, columns_N: Tensor, values_N: Tensor, columns: int, width: int) -> Iterator[Bucket]:
    """Cut rows sorted by degree into buckets; a length is 2^k or 3·2^k, so that padding is at most a half."""
    ends_R = counts_R.cumsum(0)
    sorted_counts_R, order_R = counts_R.sort(stable=True)
    lengths_R = _padded_length(sorted_counts_R)
    segments_R = -(-sorted_counts_R // lengths_R)
    ends = _bucket_ends(lengths_R.tolist(), segments_R.tolist(), width)
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        rows_B = order_R[first:last]
        length = int(lengths_R[first])
        owners_S = torch.repeat_interleave(torch.arange(last - first, device=counts_R.device), segments_R[first:last])
        nth_S = torch.arange(len(owners_S), device=counts_R.device)
        nth_S -= (segments_R[first:last].cumsum(0) - segments_R[first:last])[owners_S]
        start_S = (ends_R - counts_R)[rows_B][owners_S] + nth_S * length
        position_SL = start_S[:, None] + torch.arange(length, device=counts_R.device)
        padding_SL = position_SL >= ends_R[rows_B][owners_S][:, None]
        position_SL.clamp_(max=len(columns_N) - 1)
        yield Bucket(
            rows_B=rows_B,
            owners_S=owners_S,
            columns_SL=columns_N[position_SL].masked_fill(padding_SL, columns),
            values_SL=values_N[position_SL].masked_fill(padding_SL, 0),
        )


def _padded_length(counts_R: Tensor) -> Tensor:
    power_R = 2 ** torch.log2(counts_R.clamp(1, SEGMENT).double()).ceil().long()
    return torch.where((counts_R * 4 <= power_R * 3) & (power_R > 2), power_R * 3 // 4, power_R)


def _bucket_ends(lengths: list[int], segments: list[int], width: int) -> list[int]:
    """Where a bucket ends: where the padded length changes, or the next row would exceed the batch."""
    ends, elements = [], 0
    for row, (length, count) in enumerate(zip(lengths, segments, strict=True)):
        mine = count * length * width + width * width
        if row and (length != lengths[row - 1] or elements + mine > BATCH_ELEMENTS):
            ends.append(row)
            elements = 0
        elements += mine
    return [*ends, len(lengths)]
