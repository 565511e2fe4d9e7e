"""The heavy steps of the Gibbs sampler in batched torch, for CUDA. Nothing is read back to the host inside a sweep.

`gibbs_reference` says what each step computes.
Shapes: R rows of one side, C of the other, N ratings, K table width (factors, then bias).
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.fit.kernels.buckets import Features, buckets
from training.fit.kernels.effects_torch import STEPS, EffectSums, Pairs, draw_effects
from training.fit.kernels.gibbs_rows import EffectState, Normal, RowState

BATCH_ELEMENTS = 1 << 24  # of gathered features at a time: 64 MiB, and as much again for the weighted ones


class TorchRows:
    """The ratings of one side, grouped by row (implements `gibbs_rows.Rows`) and, for sums over columns, by column."""

    def __init__(
        self,
        rows_N: Tensor,
        columns_N: Tensor,
        values_N: Tensor,
        *,
        rows: int,
        columns: int,
        width: int,
        steps: int = STEPS,
    ) -> None:
        shape = {"rows": rows, "columns": columns}
        self._rows, self._steps = rows, steps
        order_N = rows_N.argsort(stable=True)
        self._ratings = (rows_N[order_N].long(), columns_N[order_N].long(), values_N[order_N])
        self._pairs = Pairs(rows_N, columns_N, **shape)
        self._buckets = list(buckets(rows_N, columns_N, values_N, **shape, width=width, elements=BATCH_ELEMENTS))

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        features, width = Features.of(other_CK), other_CK.shape[1]
        gram_RKK, rhs_RK = other_CK.new_zeros(self._rows, width, width), other_CK.new_zeros(self._rows, width)
        for bucket in self._buckets:
            gram_RKK[bucket.rows_B], rhs_RK[bucket.rows_B], _ = bucket.sums(features, weight_C)
        return gram_RKK, rhs_RK

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        state.gram_RKK.mul_(state.scale_R[:, None, None])
        state.rhs_RK.mul_(state.scale_R[:, None])
        # cholesky_ex does not wait for the device to tell whether it succeeded
        lower_RKK = torch.linalg.cholesky_ex(state.gram_RKK + state.precision_K.diag()).L
        side_RK1 = (state.rhs_RK + state.precision_K * state.prior_RK)[..., None]
        half_RK1 = torch.linalg.solve_triangular(lower_RKK, side_RK1, upper=False)
        drawn_RK1: Tensor = torch.linalg.solve_triangular(lower_RKK.mT, half_RK1 + noise_RK[..., None], upper=True)
        state.rhs_RK.sub_((state.gram_RKK @ drawn_RK1)[..., 0])
        return drawn_RK1[..., 0]

    def draw_effects(self, state: EffectState, normal: Normal) -> None:
        sums = EffectSums(self._pairs.over_rows, self._pairs.over_columns, lambda total: total)
        draw_effects(sums, state, normal, steps=self._steps)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        rows_N, columns_N, values_N = self._ratings
        own_NK, other_NK = own_RK[rows_N], other_CK[columns_N]
        predicted_N = (own_NK[:, :-1] * other_NK[:, :-1]).sum(1) + own_NK[:, -1] + other_NK[:, -1]
        squared_N = (values_N - predicted_N).double().square()
        both_N2 = torch.stack([weight_C[columns_N] * squared_N, squared_N], dim=1)
        return both_N2.new_zeros(self._rows, 2).index_add_(0, rows_N, both_N2)

    def sums(self, table_CK: Tensor) -> Tensor:
        return self._pairs.over_columns(table_CK)
