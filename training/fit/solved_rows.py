"""Users' rows by least squares over all cells against given factors of items whose columns are orthogonal.

The rows are those of `models.relevance.HeadSolver` and of Hu, Koren and Volinsky 2008, eq. 4. With YᵀY = s·I the
equations of a user who rated the items R are (d·I + (1−w)·Y_RᵀY_R)·x = Y_Rᵀt, where d = w·s + penalty. For few ratings
that is x = Y_Rᵀ(d·I + (1−w)·Y_R Y_Rᵀ)⁻¹t, a system of their number (Woodbury 1950). Users with about as many ratings
are solved together, by torch: the kernels of `WeightedFactors` would have to be compiled for this number of factors.
This module does not know where the factors come from.
Shapes: U users, I items, G factors, B users of a block, R ratings of one of them.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from models.relevance import penalty, total_weight
from training.fit.relevance_settings import RelevanceSettings

CELLS_AT_ONCE = 1 << 24  # of a block's factors and systems: 64 MB


class TargetsByUser(NamedTuple):
    """The targets of user u are those from `starts[u]` to `starts[u + 1]`."""

    starts: Tensor  # int64, (U+1,)
    items_N: Tensor
    targets_N: Tensor

    @classmethod
    def of(cls, targets_UI: Tensor) -> Self:
        """Those of a matrix in compressed rows."""
        return cls(targets_UI.crow_indices(), targets_UI.col_indices(), targets_UI.values())


def solved_rows(
    targets: TargetsByUser, items_IG: Tensor, square: float, settings: RelevanceSettings
) -> tuple[Tensor, Tensor]:
    """The users' rows, float32, (U, G). YᵀY is `square` times the identity.

    Also their weighted squared error over all cells, float64, 0-dimensional.
    """
    starts, counts_U, factors = targets.starts, targets.starts.diff(), items_IG.shape[1]
    in_all_U = total_weight(settings.missing_weight, len(items_IG), counts_U).double()
    ridge_U = settings.missing_weight * square + penalty(settings.regularisation, in_all_U, settings.exponent)
    rows_UG, error = items_IG.new_zeros(len(counts_U), factors), ridge_U.new_zeros(())
    order_U = counts_U.argsort(stable=True)
    begin, ends = 0, counts_U[order_U].tolist()
    while begin < len(ends):
        end = _end(ends, begin, factors)
        users_B, longest = order_U[begin:end], ends[end - 1]
        if longest > 0:
            places_BR = starts[users_B, None] + torch.arange(longest, device=starts.device)
            absent_BR = places_BR >= starts[users_B + 1, None]
            places_BR = places_BR.masked_fill(absent_BR, 0)
            targets_BR = targets.targets_N[places_BR].masked_fill(absent_BR, 0)
            factors_BRG = items_IG[targets.items_N[places_BR]].masked_fill(absent_BR[..., None], 0)
            rows_BG = _solved(factors_BRG, targets_BR, ridge_U[users_B].float(), 1 - settings.missing_weight)
            scores_BR, rows_UG[users_B] = (factors_BRG @ rows_BG[..., None])[..., 0], rows_BG
            missing = square * rows_BG.square().sum() - scores_BR.square().sum()
            error += settings.missing_weight * missing + (targets_BR - scores_BR).square().sum()
        begin = end
    return rows_UG, error


def _end(counts: list[int], begin: int, factors: int) -> int:
    """The end of a block of users in rising order of their counts: as many as fit."""
    end = begin + 1
    while end < len(counts) and (end + 1 - begin) * counts[end] * factors <= CELLS_AT_ONCE:
        end += 1
    return end


def _solved(factors_BRG: Tensor, targets_BR: Tensor, ridge_B: Tensor, weight: float) -> Tensor:
    """x of each user, (B, G), by the smaller of two equal systems."""
    ratings, factors = factors_BRG.shape[1:]
    right_BR1 = targets_BR[..., None]
    if ratings <= factors:
        system_BRR = weight * (factors_BRG @ factors_BRG.mT)
        system_BRR.diagonal(dim1=1, dim2=2).add_(ridge_B[:, None])
        return (factors_BRG.mT @ _cholesky_solve(system_BRR, right_BR1))[..., 0]
    system_BGG = weight * (factors_BRG.mT @ factors_BRG)
    system_BGG.diagonal(dim1=1, dim2=2).add_(ridge_B[:, None])
    return _cholesky_solve(system_BGG, factors_BRG.mT @ right_BR1)[..., 0]


def _cholesky_solve(system: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right, torch.linalg.cholesky(system))
