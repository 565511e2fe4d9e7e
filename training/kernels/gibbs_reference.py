"""The heavy steps of the Gibbs sampler in plain torch, row by row: what the fast kernels are tested against.

Shapes: R rows of one side, C of the other, N ratings, M ratings of one row, K table width (factors, then bias).
"""

from __future__ import annotations

import torch
from torch import Tensor


class ReferenceRows:
    """The ratings of one side, grouped by row (implements `gibbs.Rows`)."""

    def __init__(self, rows_N: Tensor, columns_N: Tensor, values_N: Tensor, *, rows: int) -> None:
        self._rows = rows
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

    def draw(
        self, gram_RKK: Tensor, rhs_RK: Tensor, scale_R: Tensor, prior_RK: Tensor, precision_K: Tensor, noise_RK: Tensor
    ) -> Tensor:
        """Draw each row x from N(A⁻¹ (s h + Λ m), A⁻¹) with A = s G + Λ (Salakhutdinov and Mnih 2008, eq. 11-13).

        In place, `gram_RKK` G becomes s G and `rhs_RK` h the gradient s h − s G x of the log-likelihood at the draw.
        The noise z enters as L⁻ᵀ z with A = L Lᵀ.
        """
        gram_RKK.mul_(scale_R[:, None, None])
        rhs_RK.mul_(scale_R[:, None])
        drawn = [
            gaussian(gram_RKK[row] + precision_K.diag(), rhs_RK[row] + precision_K * prior_RK[row], noise_RK[row])
            for row in range(self._rows)
        ]
        drawn_RK = torch.stack(drawn)
        rhs_RK.sub_(torch.einsum("rab,rb->ra", gram_RKK, drawn_RK))
        return drawn_RK

    def implicit(
        self,
        share_C: Tensor,
        gram_CKK: Tensor,
        gradient_CK: Tensor,
        effect_RK: Tensor,
        precision_K: Tensor,
        noise_RK: Tensor,
        table_CK: Tensor,
        shift_CK: Tensor,
    ) -> None:
        """Draw the effect y of each row in turn, which adds `share_C` · y to the table of every row it was rated with.

        The model is that of SVD++ (Koren 2008, eq. 15). With the rest of the table held fixed, y has precision
        Σ share² G + Λ and gradient Σ share g at its present value, so no rating is read. In place: effects, table, the
        sum of effects in it (`shift_CK`) and the gradients.
        """
        for row, (columns_M, _) in enumerate(self._ratings):
            share_M = share_C[columns_M]
            gram_KK = torch.einsum("m,mab->ab", share_M.square(), gram_CKK[columns_M])
            old_K = effect_RK[row].clone()
            side_K = share_M @ gradient_CK[columns_M] + gram_KK @ old_K
            effect_RK[row] = gaussian(gram_KK + precision_K.diag(), side_K, noise_RK[row])
            step_MK = share_M[:, None] * (effect_RK[row] - old_K)
            table_CK[columns_M] += step_MK
            shift_CK[columns_M] += step_MK
            gradient_CK[columns_M] -= torch.einsum("mab,mb->ma", gram_CKK[columns_M], step_MK)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        """The sums of each row's squared errors, weighted by the other side and plain, float64, (R, 2)."""
        sums = []
        for row, (columns_M, values_M) in enumerate(self._ratings):
            other_MK = other_CK[columns_M]
            squared_M = (values_M - other_MK[:, :-1] @ own_RK[row, :-1] - other_MK[:, -1] - own_RK[row, -1]).square()
            sums.append(torch.stack([weight_C[columns_M] @ squared_M, squared_M.sum()]))
        return torch.stack(sums).double()


def gaussian(precision_KK: Tensor, side_K: Tensor, noise_K: Tensor) -> Tensor:
    """A draw from N(A⁻¹ v, A⁻¹), made from standard normal noise."""
    lower_KK = torch.linalg.cholesky(precision_KK)
    half_K1 = torch.linalg.solve_triangular(lower_KK, side_K[:, None], upper=False)
    drawn_K1: Tensor = torch.linalg.solve_triangular(lower_KK.T, half_K1 + noise_K[:, None], upper=True)
    return drawn_K1[:, 0]
