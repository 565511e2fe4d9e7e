"""The heavy steps of the Gibbs sampler in batched torch, for CUDA. Nothing is read back to the host inside a sweep.

`gibbs_reference` says what each step computes. Rows of similar length are padded to one length and go through one
batched product. Shapes: R rows of one side, C of the other, N ratings, K table width (factors, then bias), B rows of a
batch, D the length to which its rows are padded, M ratings of one row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

CELLS_PER_BATCH = 1 << 24  # numbers gathered at once: 64 MiB
SHORTEST = 8  # rows are padded to at least this length; below it there is nothing to save


class TorchRows:
    """The ratings of one side, grouped by row (implements `gibbs.Rows`)."""

    def __init__(self, rows_N: Tensor, columns_N: Tensor, values_N: Tensor, *, rows: int, columns: int) -> None:
        order_N = rows_N.argsort(stable=True)
        self._rows_N, self._columns_N = rows_N[order_N].long(), columns_N[order_N].long()
        self._values_N = values_N[order_N]
        self._counts_R = torch.bincount(rows_N, minlength=rows)
        self._starts_R = pad(self._counts_R.cumsum(0), (1, 0))
        self._starts = self._starts_R.tolist()
        self._columns = columns
        self._buckets = list(self._by_length())

    def _by_length(self) -> Iterator[tuple[Tensor, int]]:
        """Row indices with the power of two to which they are padded."""
        longest = int(self._counts_R.max())
        length, below = SHORTEST, -1
        while below < longest:
            rows_B = torch.nonzero((self._counts_R > below) & (self._counts_R <= length))[:, 0]
            if len(rows_B):
                yield rows_B, min(length, longest)
            length, below = 2 * length, length

    def gram(self, other_CK: Tensor, weight_C: Tensor) -> tuple[Tensor, Tensor]:
        rows, width = len(self._counts_R), other_CK.shape[1]
        vector_CK = torch.cat([other_CK[:, :-1], torch.ones_like(other_CK[:, :1])], dim=1)
        gram_RKK, rhs_RK = other_CK.new_zeros(rows, width, width), other_CK.new_zeros(rows, width)
        for rows_R, length in self._buckets:
            for rows_B in rows_R.split(max(1, CELLS_PER_BATCH // max(1, length * width))):
                place_BD = self._starts_R[rows_B, None] + torch.arange(length, device=rows_B.device)
                inside_BD = place_BD < self._starts_R[rows_B + 1, None]
                place_BD = place_BD.clamp(max=len(self._columns_N) - 1)
                columns_BD = self._columns_N[place_BD]
                vector_BDK = vector_CK[columns_BD]
                weighted_BDK = (weight_C[columns_BD] * inside_BD)[..., None] * vector_BDK
                residual_BD = self._values_N[place_BD] - other_CK[columns_BD, -1]
                gram_RKK[rows_B] = weighted_BDK.mT @ vector_BDK
                rhs_RK[rows_B] = (weighted_BDK.mT @ residual_BD[..., None])[..., 0]
        return gram_RKK, rhs_RK

    def draw(
        self, gram_RKK: Tensor, rhs_RK: Tensor, scale_R: Tensor, prior_RK: Tensor, precision_K: Tensor, noise_RK: Tensor
    ) -> Tensor:
        gram_RKK.mul_(scale_R[:, None, None])
        rhs_RK.mul_(scale_R[:, None])
        lower_RKK = factorised(gram_RKK, precision_K)
        drawn_RK = _solved(lower_RKK, rhs_RK + precision_K * prior_RK, noise_RK)
        rhs_RK.sub_((gram_RKK @ drawn_RK[..., None])[..., 0])
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
        rows, width = effect_RK.shape
        total_RKK = (self._sparse(share_C.square()) @ gram_CKK.flatten(1)).view(rows, width, width)
        lower_RKK = factorised(total_RKK, precision_K)
        for row in range(rows):
            columns_M = self._columns_N[self._starts[row] : self._starts[row + 1]]
            share_M = share_C[columns_M]
            old_K = effect_RK[row].clone()
            side_K = share_M @ gradient_CK[columns_M] + total_RKK[row] @ old_K
            effect_RK[row] = _solved(lower_RKK[row], side_K, noise_RK[row])
            step_MK = share_M[:, None] * (effect_RK[row] - old_K)
            table_CK.index_add_(0, columns_M, step_MK)
            shift_CK.index_add_(0, columns_M, step_MK)
            gradient_CK.index_add_(0, columns_M, (gram_CKK[columns_M] @ step_MK[..., None])[..., 0], alpha=-1)

    def errors(self, own_RK: Tensor, other_CK: Tensor, weight_C: Tensor) -> Tensor:
        own_NK, other_NK = own_RK[self._rows_N], other_CK[self._columns_N]
        predicted_N = (own_NK[:, :-1] * other_NK[:, :-1]).sum(1) + own_NK[:, -1] + other_NK[:, -1]
        squared_N = (self._values_N - predicted_N).double().square()
        both_N2 = torch.stack([weight_C[self._columns_N] * squared_N, squared_N], dim=1)
        return both_N2.new_zeros(len(self._counts_R), 2).index_add_(0, self._rows_N, both_N2)

    def _sparse(self, weight_C: Tensor) -> Tensor:
        """The pattern of the ratings as a sparse matrix with a weight for each column, (R, C)."""
        shape = (len(self._counts_R), self._columns)
        pairs_2N = torch.stack([self._rows_N, self._columns_N])
        return torch.sparse_coo_tensor(pairs_2N, weight_C[self._columns_N], shape, check_invariants=False)


def factorised(gram_RKK: Tensor, precision_K: Tensor) -> Tensor:
    """Lower Cholesky factors of G + Λ. `cholesky_ex` does not wait for the device to tell whether it succeeded."""
    lower_RKK: Tensor = torch.linalg.cholesky_ex(gram_RKK + precision_K.diag()).L
    return lower_RKK


def _solved(lower_RKK: Tensor, side_RK: Tensor, noise_RK: Tensor) -> Tensor:
    """Draws from N((LLᵀ)⁻¹ v, (LLᵀ)⁻¹)."""
    half_RK1 = torch.linalg.solve_triangular(lower_RKK, side_RK[..., None], upper=False)
    drawn_RK1: Tensor = torch.linalg.solve_triangular(lower_RKK.mT, half_RK1 + noise_RK[..., None], upper=True)
    return drawn_RK1[..., 0]
