"""Implicit effects drawn jointly, in batched torch: for CUDA, and where the ratings are on several ranks.

The equations are those of `gibbs_reference`, joint, solved by conjugate gradients: one effect after the other would
wait for the device, or for all ranks. Shapes: R rows whose effects are drawn, C columns, N ratings, K table width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from training.fit.kernels.gibbs_reference import root
from training.fit.kernels.gibbs_rows import EffectState, Normal

STEPS = 32  # of conjugate gradients; held-out RMSE on MovieLens-100K with 8, 16, 32: 0.8780, 0.8752, 0.8742 (exact)


class Pairs:
    """Which rows were rated with which columns, for sums over them."""

    def __init__(self, rows_N: Tensor, columns_N: Tensor, *, rows: int, columns: int) -> None:
        self._columns_by_row_N = columns_N[rows_N.argsort(stable=True)].long()
        self._starts_R = pad(torch.bincount(rows_N, minlength=rows).cumsum(0), (1, 0))
        self._rows_by_column_N = rows_N[columns_N.argsort(stable=True)].long()
        self._starts_C = pad(torch.bincount(columns_N, minlength=columns).cumsum(0), (1, 0))

    def over_rows(self, table_RK: Tensor) -> Tensor:
        """For each column the sum of the rows that have rated it, (C, K)."""
        return embedding_bag(self._rows_by_column_N, table_RK, self._starts_C, mode="sum", include_last_offset=True)

    def over_columns(self, table_CK: Tensor) -> Tensor:
        """For each row the sum of the columns that it has rated, (R, K)."""
        return embedding_bag(self._columns_by_row_N, table_CK, self._starts_R, mode="sum", include_last_offset=True)


@dataclass(frozen=True, slots=True)
class EffectSums:
    """The sums that the effects' equations are made of: `Pairs`, perhaps of several ranks, and over all of these."""

    over_rows: Callable[[Tensor], Tensor]
    over_columns: Callable[[Tensor], Tensor]
    total: Callable[[Tensor], Tensor]


def draw_effects(sums: EffectSums, state: EffectState, normal: Normal, *, steps: int = STEPS) -> None:
    """See `gibbs_reference.ReferenceRows.draw_effects`."""
    share_C1, gram_CKK, precision_K = state.share_C[:, None], state.gram_CKK, state.precision_K
    scale_RK = sums.over_columns(share_C1.square() * gram_CKK.diagonal(dim1=1, dim2=2)) + precision_K
    noise_RK = precision_K.sqrt() * normal(*state.effect_RK.shape)
    gradient_noise_CK = _times(root(gram_CKK), normal(*state.gradient_CK.shape))
    side_RK = sums.over_columns(share_C1 * (state.gradient_CK + gradient_noise_CK))

    def product(x_RK: Tensor) -> Tensor:
        sum_CK = share_C1.square() * sums.over_rows(x_RK)
        return sums.over_columns(_times(gram_CKK, sum_CK)) + precision_K * x_RK

    change_RK = solve(product, side_RK + noise_RK - precision_K * state.effect_RK, scale_RK, steps, sums.total)
    state.effect_RK.add_(change_RK)
    state.move(share_C1 * sums.over_rows(change_RK))


def solve(
    product: Callable[[Tensor], Tensor],
    side_RK: Tensor,
    scale_RK: Tensor,
    steps: int,
    total: Callable[[Tensor], Tensor] = lambda here: here,
) -> Tensor:
    """A⁻¹ v by conjugate gradients from 0, preconditioned by A's diagonal (Hestenes and Stiefel 1952).

    The number of steps is fixed: to stop at a residual would mean to wait for the device. After convergence x stays.
    `total` makes the sum over all rows of what is the sum over those here.
    """
    tiny = torch.finfo(side_RK.dtype).tiny
    x_RK, residual_RK = torch.zeros_like(side_RK), side_RK
    direction_RK = residual_RK / scale_RK
    energy = total((residual_RK * direction_RK).sum())
    for _ in range(steps):
        image_RK = product(direction_RK)
        rate = energy / total((direction_RK * image_RK).sum()).clamp(min=tiny)
        x_RK = x_RK + rate * direction_RK
        residual_RK = residual_RK - rate * image_RK
        scaled_RK = residual_RK / scale_RK
        before, energy = energy, total((residual_RK * scaled_RK).sum())
        direction_RK = scaled_RK + energy / before.clamp(min=tiny) * direction_RK
    return x_RK


def _times(matrix_RKK: Tensor, vector_RK: Tensor) -> Tensor:
    return (matrix_RKK @ vector_RK[..., None])[..., 0]
