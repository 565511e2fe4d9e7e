"""The heavy steps of the Gibbs sampler in batched torch, for CUDA. Nothing is read back to the host inside a sweep.

Implicit effects are drawn jointly, also where the ratings are on several ranks: one effect after the other would wait
for the device, or for all ranks. Shapes as in `gibbs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from training.fit.kernels.buckets import Features, buckets
from training.fit.kernels.gibbs import EffectState, RowState
from training.fit.kernels.grouping import Triplets

BATCH_ELEMENTS = 1 << 24  # of gathered features at a time: 64 MiB, and as much again for the weighted ones
STEPS = 32  # of conjugate gradients; held-out RMSE on MovieLens-100K with 8, 16, 32: 0.8780, 0.8752, 0.8742 (exact)
JITTER = 1e-5  # of a Gram matrix's trace, added to its diagonal so that its Cholesky factor exists in float32

Map = Callable[[Tensor], Tensor]


class TorchRows:
    """The ratings of one side, grouped by row (implements `gibbs.Rows`) and, for sums over rows, by column."""

    def __init__(self, ratings: Triplets, width: int) -> None:
        rows_N, columns_N, values_N, self._rows, columns, weights_N = ratings
        by_row_N, by_column_N = rows_N.argsort(stable=True), columns_N.argsort(stable=True)
        self._ratings = (rows_N[by_row_N].long(), columns_N[by_row_N].long(), values_N[by_row_N])
        self._weights_N = None if weights_N is None else weights_N[by_row_N]
        self._starts_R = pad(torch.bincount(rows_N, minlength=self._rows).cumsum(0), (1, 0))
        self._rows_by_column_N = rows_N[by_column_N].long()
        self._starts_C = pad(torch.bincount(columns_N, minlength=columns).cumsum(0), (1, 0))
        self._buckets = list(buckets(ratings, width, BATCH_ELEMENTS))

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
        state.rhs_RK.sub_(_times(state.gram_RKK, drawn_RK1[..., 0]))
        return drawn_RK1[..., 0]

    def draw_effects(self, state: EffectState, noise: Iterator[Tensor]) -> None:
        draw_effects(self._sums_over_rows, self.sums, state, noise)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        rows_N, columns_N, values_N = self._ratings
        own_NK, other_NK = own_RK[rows_N], other_CK[columns_N]
        predicted_N = (own_NK[:, :-1] * other_NK[:, :-1]).sum(1) + own_NK[:, -1] + other_NK[:, -1]
        squared_N = (values_N - predicted_N).double().square()
        weight_N = weight_C[columns_N] if self._weights_N is None else weight_C[columns_N] * self._weights_N
        both_N2 = torch.stack([weight_N * squared_N, squared_N], dim=1)
        return both_N2.new_zeros(self._rows, 2).index_add_(0, rows_N, both_N2)

    def sums(self, table_CK: Tensor) -> Tensor:
        return embedding_bag(self._ratings[1], table_CK, self._starts_R, mode="sum", include_last_offset=True)

    def _sums_over_rows(self, table_RK: Tensor) -> Tensor:
        """For each column the sum of the rows that have rated it, (C, K)."""
        return embedding_bag(self._rows_by_column_N, table_RK, self._starts_C, mode="sum", include_last_offset=True)


def draw_effects(
    over_rows: Map, over_columns: Map, state: EffectState, noise: Iterator[Tensor], total: Map = lambda here: here
) -> None:
    """Draw the effects jointly: solve (Λ + W G Wᵀ) y = W (g + G Wᵀ y_old + ζ) + Λ^½ z, where ζ has covariance G.

    W holds the share of a column where there is a rating. The solution is a draw (Papandreou and Yuille 2010, "Gaussian
    sampling by local perturbations").

    Args:
        over_rows: of a table of the rows, for each column the sum of those that have rated it.
        over_columns: of a table of the columns, for each row the sum of those that it has rated.
        total: of a sum over the rows here, the sum over those of all ranks.
    """
    share_C, gram_CKK, precision_K = state.share_C[:, None], state.gram_CKK, state.precision_K
    scale_RK = over_columns(share_C.square() * gram_CKK.diagonal(dim1=1, dim2=2)) + precision_K
    noise_RK = precision_K.sqrt() * next(noise)
    gradient_noise_CK = _times(root(gram_CKK), next(noise))
    side_RK = over_columns(share_C * (state.gradient_CK + gradient_noise_CK))

    def product(x_RK: Tensor) -> Tensor:
        return over_columns(_times(gram_CKK, share_C.square() * over_rows(x_RK))) + precision_K * x_RK

    change_RK = _solve(product, side_RK + noise_RK - precision_K * state.effect_RK, scale_RK, total)
    state.effect_RK.add_(change_RK)
    state.move(share_C * over_rows(change_RK))


def root(gram_RKK: Tensor) -> Tensor:
    """L with L Lᵀ = G, nearly: a Gram matrix of few ratings is singular, so its diagonal gets `JITTER`."""
    trace_R = gram_RKK.diagonal(dim1=1, dim2=2).sum(1)
    jitter_R1 = (JITTER * trace_R).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    lower_RKK: Tensor = torch.linalg.cholesky_ex(gram_RKK + torch.diag_embed(jitter_R1.expand(gram_RKK.shape[:2]))).L
    return lower_RKK


def _solve(product: Map, side_RK: Tensor, scale_RK: Tensor, total: Map) -> Tensor:
    """A⁻¹ v by conjugate gradients from 0, preconditioned by A's diagonal (Hestenes and Stiefel 1952).

    The number of steps is fixed: to stop at a residual would mean to wait for the device. After convergence x stays.
    """
    tiny = torch.finfo(side_RK.dtype).tiny
    x_RK, residual_RK = torch.zeros_like(side_RK), side_RK
    direction_RK = residual_RK / scale_RK
    energy = total((residual_RK * direction_RK).sum())
    for _ in range(STEPS):
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
