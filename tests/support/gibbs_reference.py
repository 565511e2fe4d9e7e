"""The heavy steps of the Gibbs sampler in plain torch, row by row: what the fast kernels are tested against.

Shapes: R rows of one side, C of the other, N ratings, M ratings of one row, K table width (factors, then bias).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from training.fit.kernels.gibbs import EffectState, RowState
from training.fit.kernels.gibbs_torch import root
from training.fit.kernels.grouping import Triplets

BLOCK = 8  # columns of an effect drawn at once, given the others


class ReferenceRows:
    """The ratings of one side (implements `gibbs.Rows`). `joint`: draw all implicit effects at once."""

    def __init__(self, ratings: Triplets, *, joint: bool = False) -> None:
        rows_N, columns_N, values_N, rows, _, _ = ratings
        self._rows = rows
        self._joint = joint
        self._ratings = [(columns_N[rows_N == row].long(), values_N[rows_N == row]) for row in range(rows)]

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        """For each row Σ w v vᵀ, (R, K, K), and Σ w v (r − b), (R, K); v = [factors, 1] and b are the other side's."""
        vector_CK = torch.cat([other_CK[:, :-1], torch.ones_like(other_CK[:, :1])], dim=1)
        grams, sides = [], []
        for columns_M, values_M in self._ratings:
            weighted_MK = weight_C[columns_M, None] * vector_CK[columns_M]
            grams.append(weighted_MK.T @ vector_CK[columns_M])
            sides.append(weighted_MK.T @ (values_M - other_CK[columns_M, -1]))
        return torch.stack(grams), torch.stack(sides)

    def draw(self, state: RowState, noise_RK: Tensor) -> Tensor:
        """Draw each row as `RowState` says (Salakhutdinov and Mnih 2008, eq. 11-13).

        The noise z enters as L⁻ᵀ z with A = L Lᵀ.
        """
        state.gram_RKK.mul_(state.scale_R[:, None, None])
        state.rhs_RK.mul_(state.scale_R[:, None])
        matrix_RKK = state.gram_RKK + state.precision_K.diag()
        side_RK = state.rhs_RK + state.precision_K * state.prior_RK
        drawn_RK = torch.stack(list(map(gaussian, matrix_RKK, side_RK, noise_RK)))
        state.rhs_RK.sub_(torch.einsum("rab,rb->ra", state.gram_RKK, drawn_RK))
        return drawn_RK

    def draw_effects(self, state: EffectState, noise: Iterator[Tensor]) -> None:
        """Draw the effects of SVD++ (Koren 2008, eq. 15).

        The log-likelihood is quadratic in the table, with gradient g and Hessian −G, so no rating is read.
        """
        draw = self._joint_effects if self._joint else self._effects_in_sequence
        share_RC = self._shares(state.share_C)
        new_RK = draw(share_RC, state, noise)
        step_CK = share_RC.T @ (new_RK - state.effect_RK)
        state.effect_RK.copy_(new_RK)
        state.move(step_CK)

    def _shares(self, share_C: Tensor) -> Tensor:
        """W, (R, C): `share_C` where there is a rating."""
        share_RC = share_C.new_zeros(self._rows, len(share_C))
        for row, (columns_M, _) in enumerate(self._ratings):
            share_RC[row, columns_M] = share_C[columns_M]
        return share_RC

    def _effects_in_sequence(self, share_RC: Tensor, state: EffectState, noise: Iterator[Tensor]) -> Tensor:
        """Block of columns after block; in it, row after row.

        With all else fixed, y has precision Σ share² G + Λ; the likelihood's gradient at its old value is Σ share g.
        """
        gram_CKK, precision_K = state.gram_CKK, state.precision_K
        effect_RK, gradient_CK = state.effect_RK.clone(), state.gradient_CK.clone()
        noise_RK = next(noise).to(effect_RK)
        for first in range(0, effect_RK.shape[1], BLOCK):
            block = slice(first, first + BLOCK)
            for row, share_C in enumerate(share_RC):
                gram_BB = torch.einsum("c,cab->ab", share_C.square(), gram_CKK[:, block, block])
                old_B = effect_RK[row, block].clone()
                side_B = share_C @ gradient_CK[:, block] + gram_BB @ old_B
                effect_RK[row, block] = gaussian(gram_BB + precision_K[block].diag(), side_B, noise_RK[row, block])
                gradient_CK -= share_C[:, None] * (gram_CKK[:, :, block] @ (effect_RK[row, block] - old_B))
        return effect_RK

    def _joint_effects(self, share_RC: Tensor, state: EffectState, noise: Iterator[Tensor]) -> Tensor:
        """Solve (Λ + W G Wᵀ) y = W (g + G Wᵀ y_old + ζ) + Λ^½ z, where ζ has covariance G: y is a draw.

        Perturbation of the equations: Papandreou and Yuille 2010, "Gaussian sampling by local perturbations".
        """
        gram_CKK, gradient_CK, effect_RK = state.gram_CKK, state.gradient_CK, state.effect_RK
        rows, width = effect_RK.shape
        noise_RK, noise_CK = next(noise).to(effect_RK), next(noise).to(effect_RK)
        matrix = torch.einsum("rc,sc,cab->rasb", share_RC, share_RC, gram_CKK).reshape(rows * width, rows * width)
        matrix += state.precision_K.repeat(rows).diag()
        fitted_CK = torch.einsum("cab,cb->ca", gram_CKK, share_RC.T @ effect_RK)
        noisy_CK = gradient_CK + fitted_CK + torch.einsum("cab,cb->ca", root(gram_CKK), noise_CK)
        side_RK = share_RC @ noisy_CK + state.precision_K.sqrt() * noise_RK
        solution: Tensor = torch.linalg.solve(matrix, side_RK.flatten())
        return solution.view(rows, width)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        sums = []
        for row, (columns_M, values_M) in enumerate(self._ratings):
            other_MK = other_CK[columns_M]
            squared_M = (values_M - other_MK[:, :-1] @ own_RK[row, :-1] - other_MK[:, -1] - own_RK[row, -1]).square()
            sums.append(torch.stack([weight_C[columns_M] @ squared_M, squared_M.sum()]))
        return torch.stack(sums).double()

    def sums(self, table_CK: Tensor) -> Tensor:
        return torch.stack([table_CK[columns_M].sum(0) for columns_M, _ in self._ratings])


def gaussian(precision_KK: Tensor, side_K: Tensor, noise_K: Tensor) -> Tensor:
    """A draw from N(A⁻¹ v, A⁻¹), made from standard normal noise."""
    lower_KK = torch.linalg.cholesky(precision_KK)
    half_K1 = torch.linalg.solve_triangular(lower_KK, side_K[:, None], upper=False)
    drawn_K1: Tensor = torch.linalg.solve_triangular(lower_KK.T, half_K1 + noise_K[:, None], upper=True)
    return drawn_K1[:, 0]
