"""Ratings grouped by row for batched torch operations, on CUDA: rows of about equal degree, padded to it.

Sums over rows are then a fixed list of batched products, which never asks the device for a value. Shapes: R rows, C
columns of the rating matrix, N ratings, K width of a table (bias last if there is one), B rows of a bucket, S segments
that they are cut into, L the padded length of a segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from training.fit.kernels.grouping import Triplets

SEGMENT = 1024  # longest padded length; longer rows are cut
BATCH_ELEMENTS = 1 << 26  # of gathered features at a time: 256 MB


class Bucket(NamedTuple):
    """Whole rows in segments of equal length.

    Attributes:
        rows_B: the rows.
        owners_S: position in `rows_B` of the row that each segment is part of.
        columns_SL: int32, C in the padding.
        values_SL: float32, 0 in the padding.
        weights_SL: those of the ratings, anything in the padding; None where all are 1.
    """

    rows_B: Tensor
    owners_S: Tensor
    columns_SL: Tensor
    values_SL: Tensor
    weights_SL: Tensor | None

    def sums(self, features: Features, weight_C: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Σ w a aᵀ, Σ w t a and Σ w t² of each row, a being the features and t = z − b.

        w is the weight of the column, 1 without weights, times that of the rating.
        """
        a_SLK = features.a_CK[self.columns_SL]
        targets_SL = self.values_SL - features.bias_C[self.columns_SL]
        weighted_SLK, weighted_SL = a_SLK, targets_SL
        weight_SL = self._weights(weight_C)
        if weight_SL is not None:
            weighted_SLK, weighted_SL = weight_SL[..., None] * a_SLK, weight_SL * targets_SL
        return (
            self._by_row(weighted_SLK.mT @ a_SLK),
            self._by_row((weighted_SLK.mT @ targets_SL[..., None]).squeeze(-1)),
            self._by_row((weighted_SL * targets_SL).sum(1)),
        )

    def _weights(self, weight_C: Tensor | None) -> Tensor | None:
        if weight_C is None:
            return self.weights_SL
        weight_SL = torch.cat([weight_C, weight_C.new_zeros(1)])[self.columns_SL]
        return weight_SL if self.weights_SL is None else weight_SL * self.weights_SL

    def _by_row(self, sums_S: Tensor) -> Tensor:
        if len(self.owners_S) == len(self.rows_B):
            return sums_S
        return sums_S.new_zeros(len(self.rows_B), *sums_S.shape[1:]).index_add_(0, self.owners_S, sums_S)


class Features(NamedTuple):
    """What a rating of a column says of a row: [q, 1] and b, without biases q and 0. Row C, for the padding, is 0."""

    a_CK: Tensor
    bias_C: Tensor

    @classmethod
    def of(cls, table_CK: Tensor, *, biased: bool = True) -> Features:
        a_CK = torch.cat([table_CK, table_CK.new_zeros(1, table_CK.shape[1])])
        if not biased:
            return cls(a_CK, a_CK.new_zeros(len(a_CK)))
        bias_C = a_CK[:, -1].clone()
        a_CK[:-1, -1] = 1
        return cls(a_CK, bias_C)


def buckets(ratings: Triplets, width: int, elements: int | None = None) -> Iterator[Bucket]:
    """Cut rows sorted by degree into buckets; a length is 2^k or 3·2^k, so that padding is at most a half.

    `elements` is the most that the gathered features of a bucket may have, `BATCH_ELEMENTS` by default.
    """
    order_N = torch.argsort(ratings.rows_N, stable=True)
    columns_N, values_N = ratings.columns_N[order_N], ratings.values_N[order_N]
    weights_N = None if ratings.weights_N is None else ratings.weights_N[order_N]
    counts_R = torch.bincount(ratings.rows_N, minlength=ratings.rows)
    ends_R = counts_R.cumsum(0)
    sorted_counts_R, order_R = counts_R.sort(stable=True)
    lengths_R = padded_length(sorted_counts_R)
    segments_R = -(-sorted_counts_R // lengths_R)
    ends = bucket_ends(lengths_R.tolist(), segments_R.tolist(), width, elements or BATCH_ELEMENTS)
    for first, last in zip([0, *ends], ends, strict=False):
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
            columns_SL=columns_N[position_SL].masked_fill(padding_SL, ratings.columns),
            values_SL=values_N[position_SL].masked_fill(padding_SL, 0),
            weights_SL=None if weights_N is None else weights_N[position_SL],
        )


def padded_length(counts_R: Tensor) -> Tensor:
    power_R = 2 ** torch.log2(counts_R.clamp(1, SEGMENT).double()).ceil().long()
    return torch.where((counts_R * 4 <= power_R * 3) & (power_R > 2), power_R * 3 // 4, power_R)


def bucket_ends(lengths: list[int], segments: list[int], width: int, limit: int) -> list[int]:
    """Where a bucket ends: where the padded length changes, or the next row would exceed the limit."""
    ends, elements = [], 0
    for row, (length, count) in enumerate(zip(lengths, segments, strict=True)):
        mine = count * length * width + width * width
        if row and (length != lengths[row - 1] or elements + mine > limit):
            ends.append(row)
            elements = 0
        elements += mine
    return [*ends, len(lengths)] if lengths else []
