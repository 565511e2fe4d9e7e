"""Item-to-item regression on targets: EASE (Steck 2019) among the items with most ratings, ridge regression for others.

A score is x_u·B, x_u being a user's targets of the *covered* items, C of them. Column j of B regresses the targets of
item j on those of the covered items but j itself. With P = (XᵀX + diag(ridge))⁻¹ over these that is
B_j = e_j − P_j/P_jj for a covered item (Steck, eq. 8) and P Xᵀx_j for another one. Only P is ever held, C × C: B is
multiplied, not computed. So the number of items does not matter, and the work beside P grows with that of ratings.
This module does not know how the scores are used.
Shapes: U users of this rank, I items, C covered, N ratings, K columns.
"""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor

from training.fit.trainer import TrainingSet

RIDGE_POWER = (
    0.4  # a covered item pays ridge · count^0.4: 0.2651 for 0.2626 without (NDCG@10, splits of ml-100k's training)
)
LARGEST_RATIO = 1e6  # of the largest eigenvalue to the least ridge; beyond it float32 is too coarse for the inverse


class ItemRegression:
    """The targets of one training set, ready for any ridge."""

    def __init__(self, data: TrainingSet, targets_N: Tensor, most: int) -> None:
        self.counts_I, self.user_counts_U = data.item_totals(), data.user_counts().float()
        place_I = data.most_rated(most)
        self.covered_C = (place_I >= 0).nonzero()[:, 0]
        self.counts_C = self.counts_I[self.covered_C].float()
        self.communicator = data.communicator
        place_N = place_I[data.items_N.long()]
        inside_N, users_N = place_N >= 0, data.users_N.long()
        shape = (data.users, len(self.covered_C))
        self.targets_UC = compressed_rows(users_N[inside_N], place_N[inside_N], targets_N[inside_N], shape)
        self._targets_CU = compressed_rows(place_N[inside_N], users_N[inside_N], targets_N[inside_N], shape[::-1])
        outside_N, shape = ~inside_N, (data.users, data.items)
        items_N = data.items_N.long()[outside_N]
        self._others_UI = compressed_rows(users_N[outside_N], items_N, targets_N[outside_N], shape)
        self._others_IU = compressed_rows(items_N, users_N[outside_N], targets_N[outside_N], shape[::-1])

    @cached_property
    def _gram_CC(self) -> Tensor:
        """XᵀX over the users of all ranks."""
        gram_CC: Tensor = torch.sparse.mm(self._targets_CU, self.targets_UC).to_dense()
        return self.communicator.sum(gram_CC)

    def inverse(self, ridge: float) -> Tensor:
        """P, float32, (C, C)."""
        ridge_C = ridge * self.counts_C.clamp(min=1) ** RIDGE_POWER
        exact = bool(self._gram_CC.diagonal().sum() > LARGEST_RATIO * ridge_C.min())
        precision_CC = self._gram_CC.double() if exact else self._gram_CC.clone()
        precision_CC.diagonal().add_(ridge_C)
        return torch.cholesky_inverse(torch.linalg.cholesky(precision_CC)).float()

    def times(self, inverse_CC: Tensor, right_IK: Tensor) -> Tensor:
        """B·right, (C, K)."""
        own_CK, others_IK = right_IK[self.covered_C], right_IK
        carried_CK = self.communicator.sum(self._targets_CU @ (self._others_UI @ others_IK))
        return own_CK - inverse_CC @ (own_CK / inverse_CC.diagonal()[:, None] - carried_CK)

    def transposed_times(self, inverse_CC: Tensor, left_CK: Tensor) -> Tensor:
        """Bᵀ·left, (I, K)."""
        inner_CK = inverse_CC @ left_CK
        result_IK = self.communicator.sum(self._others_IU @ (self.targets_UC @ inner_CK))
        result_IK[self.covered_C] = left_CK - inner_CK / inverse_CC.diagonal()[:, None]
        return result_IK

    def summed_over_users(self, values_UK: Tensor) -> Tensor:
        """Xᵀ·values over the users of all ranks, (C, K)."""
        return self.communicator.sum(self._targets_CU @ values_UK)


def compressed_rows(rows_N: Tensor, columns_N: Tensor, values_N: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix of float32, in compressed rows."""
    order_N = (rows_N * shape[1] + columns_N).argsort()
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=rows_N.device)
    torch.cumsum(torch.bincount(rows_N, minlength=shape[0]), 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns_N[order_N], values_N[order_N], shape, check_invariants=True)
