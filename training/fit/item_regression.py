"""Item-to-item regression on targets, with the *covered* items, those with most ratings, as regressors.

A score is x_u·B, x_u being a user's targets of the covered items, C of them. Column j of B regresses the targets of
item j on those of covered items but j itself, in one of two forms:
- on all of them: with P = (XᵀX + diag(ridge))⁻¹ that is B_j = e_j − P_j/P_jj for a covered item (EASE: Steck 2019,
  eq. 8) and P Xᵀx_j for another one. Only P is ever held, C × C: B is multiplied, not computed. So the number of items
  does not matter, and the work beside P grows with that of ratings;
- on its neighbours alone, those with the largest entries of XᵀX: B is sparse, and what chance put into the other
  entries is left out. That is ahead where users rate within small groups of items, such as the parts of a series.
This module does not know how the scores are used.
Shapes: U users of this rank, I items, C covered, N ratings, K columns, B items of a block, S neighbours.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from training.fit.trainer import TrainingSet

RIDGE_POWER = (
    0.4  # a covered item pays ridge · count^0.4: 0.2651 for 0.2626 without (NDCG@10, splits of ml-100k's training)
)
NEIGHBOURS = 100  # of a covered item; with 50 NDCG@10 on anime's training part is 0.301, with 100 0.310, with 200 0.312
FEW_NEIGHBOURS = 20  # of another item: it has few ratings, and there may be a million such items
ITEMS_AT_ONCE = 500
LARGEST_RATIO = 1e6  # of the largest eigenvalue to the least ridge; beyond it float32 is too coarse for the inverse


class Form(NamedTuple):
    """On what an item is regressed, and how strongly weights are held near zero."""

    ridge: float
    neighbours_alone: bool = False


class Weights(Protocol):
    """B, (C, I), as what it is multiplied by."""

    def times(self, right_IK: Tensor) -> Tensor:
        """B·right, (C, K)."""

    def transposed_times(self, left_CK: Tensor) -> Tensor:
        """Bᵀ·left, (I, K)."""

    def scores(self, targets_BC: Tensor) -> Tensor:
        """The scores of the covered items for some users of this rank, (B, C). No other rank has a part in it."""


class ItemRegression:
    """The targets of one training set, ready for any form."""

    def __init__(self, data: TrainingSet, targets_N: Tensor, most: int) -> None:
        self.counts_I, self.user_counts_U = data.item_totals(), data.user_counts().float()
        self.place_I = data.most_rated(most)
        self.covered_C = (self.place_I >= 0).nonzero()[:, 0]
        self.counts_C = self.counts_I[self.covered_C].float()
        self.communicator = data.communicator
        place_N = self.place_I[data.items_N.long()]
        inside_N, users_N = place_N >= 0, data.users_N.long()
        shape = (data.users, len(self.covered_C))
        self.targets_UC = compressed_rows(users_N[inside_N], place_N[inside_N], targets_N[inside_N], shape)
        self.targets_CU = compressed_rows(place_N[inside_N], users_N[inside_N], targets_N[inside_N], shape[::-1])
        outside_N, shape = ~inside_N, (data.users, data.items)
        items_N = data.items_N.long()[outside_N]
        self.others_UI = compressed_rows(users_N[outside_N], items_N, targets_N[outside_N], shape)
        self._weights: dict[Form, Weights] = {}
        self.others_IU = compressed_rows(items_N, users_N[outside_N], targets_N[outside_N], shape[::-1])

    def weights(self, form: Form) -> Weights:
        """B in one of its forms. It is kept: the forms that are tried are few."""
        if form not in self._weights:
            make = NeighbourWeights if form.neighbours_alone else AllWeights
            self._weights[form] = make(self, form.ridge)
        return self._weights[form]

    @cached_property
    def gram_CC(self) -> Tensor:
        """XᵀX over the users of all ranks."""
        gram_CC: Tensor = torch.sparse.mm(self.targets_CU, self.targets_UC).to_dense()
        return self.communicator.sum(gram_CC)

    @cached_property
    def largest(self) -> float:
        """The largest entry of XᵀX."""
        return float(self.gram_CC.diagonal().max()) if len(self.gram_CC) else 0.0

    def inverse(self, ridge: float) -> Tensor:
        """P, float32, (C, C)."""
        ridge_C = ridge * self.counts_C.clamp(min=1) ** RIDGE_POWER
        exact = bool(self.gram_CC.diagonal().sum() > LARGEST_RATIO * ridge_C.min())
        precision_CC = self.gram_CC.double() if exact else self.gram_CC.clone()
        precision_CC.diagonal().add_(ridge_C)
        return torch.cholesky_inverse(torch.linalg.cholesky(precision_CC)).float()

    def summed_over_users(self, values_UK: Tensor) -> Tensor:
        """Xᵀ·values over the users of all ranks, (C, K)."""
        return self.communicator.sum(self.targets_CU @ values_UK)


class AllWeights:
    """Every item is regressed on all covered ones."""

    def __init__(self, regression: ItemRegression, ridge: float) -> None:
        self._regression, self._inverse_CC = regression, regression.inverse(ridge)
        self._diagonal_C1 = self._inverse_CC.diagonal()[:, None]

    def times(self, right_IK: Tensor) -> Tensor:
        regression = self._regression
        own_CK = right_IK[regression.covered_C]
        carried_CK = regression.summed_over_users(regression.others_UI @ right_IK)
        return own_CK - self._inverse_CC @ (own_CK / self._diagonal_C1 - carried_CK)

    def transposed_times(self, left_CK: Tensor) -> Tensor:
        regression, inner_CK = self._regression, self._inverse_CC @ left_CK
        carried_IK = regression.others_IU @ (regression.targets_UC @ inner_CK)
        result_IK = regression.communicator.sum(carried_IK)
        result_IK[regression.covered_C] = left_CK - inner_CK / self._diagonal_C1
        return result_IK

    def scores(self, targets_BC: Tensor) -> Tensor:
        return targets_BC - targets_BC @ (self._inverse_CC / self._diagonal_C1.T)


class NeighbourWeights:
    """Every item is regressed on its neighbours among the covered ones."""

    def __init__(self, regression: ItemRegression, ridge: float) -> None:
        entries = [_solved(regression, ridge, rows_B) for rows_B in _blocks(regression)]
        rows_M, items_M, values_M = (torch.cat(column) for column in zip(*entries, strict=True))
        covered, items = len(regression.covered_C), len(regression.counts_I)
        self._weights_CI = compressed_rows(rows_M, items_M, values_M, (covered, items))
        self._weights_IC = compressed_rows(items_M, rows_M, values_M, (items, covered))
        self._covered_C = regression.covered_C

    def times(self, right_IK: Tensor) -> Tensor:
        return self._weights_CI @ right_IK

    def transposed_times(self, left_CK: Tensor) -> Tensor:
        return self._weights_IC @ left_CK

    def scores(self, targets_BC: Tensor) -> Tensor:
        return self.transposed_times(targets_BC.T)[self._covered_C].T


class _Block(NamedTuple):
    """Some items, their rows of XᵀX against the covered items, (B, C), and how many neighbours each has."""

    items_B: Tensor
    gram_BC: Tensor
    neighbours: int


def _blocks(regression: ItemRegression) -> Iterator[_Block]:
    """First the covered items, then the others."""
    for items_B in regression.covered_C.split(ITEMS_AT_ONCE):
        gram_BC = regression.gram_CC[regression.place_I[items_B]]
        gram_BC[torch.arange(len(items_B)), regression.place_I[items_B]] = -torch.inf  # none is its own neighbour
        yield _Block(items_B, gram_BC, min(NEIGHBOURS, len(gram_BC.T) - 1))
    for items_B in (regression.place_I < 0).nonzero()[:, 0].split(ITEMS_AT_ONCE):
        others_BU = taken_rows(regression.others_IU, items_B)
        gram_BC = torch.sparse.mm(others_BU, regression.targets_UC).to_dense()
        yield _Block(items_B, regression.communicator.sum(gram_BC), min(FEW_NEIGHBOURS, len(gram_BC.T)))


def _solved(regression: ItemRegression, ridge: float, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of B in the columns of some items: rows, columns and values, (B · S,) each."""
    right_BS, near_BS = block.gram_BC.topk(block.neighbours)
    gram_BSS = regression.gram_CC[near_BS[:, :, None], near_BS[:, None, :]]
    if regression.largest * block.neighbours > LARGEST_RATIO * ridge:
        gram_BSS, right_BS = gram_BSS.double(), right_BS.double()
    gram_BSS.diagonal(dim1=1, dim2=2).add_(ridge)
    solved_BS = torch.cholesky_solve(right_BS[..., None], torch.linalg.cholesky(gram_BSS))[..., 0]
    columns_BS = block.items_B[:, None].expand_as(near_BS)
    return near_BS.flatten(), columns_BS.flatten(), solved_BS.float().flatten()


def weights_bytes(items: int, covered: int) -> int:
    """The memory of the weights of neighbours alone: a row number and a value each."""
    return 12 * (min(NEIGHBOURS, covered) * covered + min(FEW_NEIGHBOURS, covered) * (items - covered))


def compressed_rows(rows_N: Tensor, columns_N: Tensor, values_N: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix of float32, in compressed rows."""
    order_N = (rows_N * shape[1] + columns_N).argsort()
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=rows_N.device)
    torch.cumsum(torch.bincount(rows_N, minlength=shape[0]), 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns_N[order_N], values_N[order_N], shape, check_invariants=True)


def taken_rows(matrix: Tensor, rows_B: Tensor) -> Tensor:
    """Some rows of a matrix in compressed rows, as another one."""
    starts, columns_N, values_N = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    counts_B = starts[rows_B + 1] - starts[rows_B]
    ends_B = counts_B.cumsum(0)
    places_M = torch.arange(int(counts_B.sum()), device=matrix.device)
    taken_M = places_M + torch.repeat_interleave(starts[rows_B] - (ends_B - counts_B), counts_B)
    own_M = torch.repeat_interleave(torch.arange(len(rows_B), device=matrix.device), counts_B)
    return compressed_rows(own_M, columns_N[taken_M], values_N[taken_M], (len(rows_B), matrix.shape[1]))
