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

from training.fit.kernels.als_rows import packed_width

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
        self._rows = rows
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
        features_CK, bias_C = _features(other_CK, biased=bias_ridge is not None)
        penalty_RK = _penalties(ridge_R, bias_ridge, features_CK.shape[1])
        error = other_CK.new_zeros(())
        for bucket in self.buckets:
            gram_BKK, weighted_BK, squares_B = _bucket_sums(bucket, features_CK, bias_C)
            penalty_BK = penalty_RK[bucket.rows_B]
            out_RK[bucket.rows_B], errors_B = _solved(gram_BKK, weighted_BK, squares_B, penalty_BK, prior_KK)
            error += errors_B.sum()
        return error

    def sums(self, other_CK: Tensor, *, biased: bool) -> Tensor:
        """See `als_rows.Rows`."""
        features_CK, bias_C = _features(other_CK, biased=biased)
        K = features_CK.shape[1]
        upper = torch.triu_indices(K, K, device=other_CK.device)
        sums_RS = other_CK.new_zeros(self._rows, packed_width(K))
        for bucket in self.buckets:
            gram_BKK, weighted_BK, squares_B = _bucket_sums(bucket, features_CK, bias_C)
            packed = (gram_BKK[:, upper[0], upper[1]], weighted_BK, squares_B[:, None])
            sums_RS[bucket.rows_B] = torch.cat(packed, dim=1)
        return sums_RS

    def solve_sums(
        self,
        sums_RS: Tensor,
        ridge_R: Tensor,
        bias_ridge: float | None,
        out_RK: Tensor,
        prior_KK: Tensor | None = None,
    ) -> Tensor:
        """See `als_rows.Rows`."""
        K = out_RK.shape[1]
        upper = torch.triu_indices(K, K, device=out_RK.device)
        error = out_RK.new_zeros(())
        for rows_B in torch.arange(len(out_RK), device=out_RK.device).split(max(1, BATCH_ELEMENTS // K**2)):
            packed_BS = sums_RS[rows_B]
            gram_BKK = packed_BS.new_zeros(len(rows_B), K, K)
            gram_BKK[:, upper[0], upper[1]] = gram_BKK[:, upper[1], upper[0]] = packed_BS[:, : upper.shape[1]]
            penalty_BK = _penalties(ridge_R[rows_B], bias_ridge, K)
            sums = (gram_BKK, packed_BS[:, upper.shape[1] : -1], packed_BS[:, -1])
            out_RK[rows_B], errors_B = _solved(*sums, penalty_BK, prior_KK)
            error += errors_B.sum()
        return error


def _features(other_CK: Tensor, *, biased: bool) -> tuple[Tensor, Tensor]:
    """Every column's [q, 1] and b, or q and 0; then those of the padding, which are 0."""
    features_CK = torch.cat([other_CK, other_CK.new_zeros(1, other_CK.shape[1])])
    bias_C = features_CK.new_zeros(len(features_CK))
    if biased:
        bias_C = features_CK[:, -1].clone()
        features_CK[:-1, -1] = 1
    return features_CK, bias_C


def _penalties(ridge_R: Tensor, bias_ridge: float | None, width: int) -> Tensor:
    penalty_RK = ridge_R[:, None].repeat(1, width)
    if bias_ridge is not None:
        penalty_RK[:, -1] = bias_ridge
    return penalty_RK


def _bucket_sums(bucket: Bucket, features_CK: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Σ a aᵀ, Σ t a and Σ t² of each row."""
    a_SLK = features_CK[bucket.columns_SL]
    padding_SL = bucket.columns_SL == len(features_CK) - 1
    targets_SL = (bucket.values_SL - bias_C[bucket.columns_SL]).masked_fill(padding_SL, 0)
    gram_BKK = _sum_by_owner(bucket, a_SLK.mT @ a_SLK)
    weighted_BK = _sum_by_owner(bucket, (a_SLK.mT @ targets_SL[..., None]).squeeze(-1))
    return gram_BKK, weighted_BK, _sum_by_owner(bucket, targets_SL.square().sum(1))


def _solved(
    gram_BKK: Tensor, weighted_BK: Tensor, squares_B: Tensor, penalty_BK: Tensor, prior_KK: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The solutions and their errors. The Gram matrices are overwritten."""
    if prior_KK is not None:
        gram_BKK += prior_KK
    gram_BKK.diagonal(dim1=-2, dim2=-1).add_(penalty_BK)
    factor_BKK = torch.linalg.cholesky_ex(gram_BKK).L
    x_BK = torch.cholesky_solve(weighted_BK[..., None], factor_BKK).squeeze(-1)
    return x_BK, squares_B - (x_BK * (weighted_BK + penalty_BK * x_BK)).sum(1)


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
