"""The relevance head: the tables that order lists, s_ui = x_u · y_i, and how a user is folded into them.

A score is not a rating and has no scale. This module does not know how the tables were fitted, but the rule by which a
user's row follows from their ratings. It is the sum of two rows:
- the solved one, in the first H factors, minimises Σ weight·(target − x·y)² over all cells plus penalty·‖x‖²;
- the summed one is Σ target · n_i over the rated items, n_i being the item's row of a third table.
Shapes: U users, I items, G factors, H of them solved, N ratings of one user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.scoring import Floats, Rows


def targets(ratings: Any, mean: Any, deviation: Any, slope: float) -> Any:
    """The target of each rating: 1 + slope · (rating − mean) / deviation, at least 0. That of an unrated cell is 0."""
    return (1 + slope * ((ratings - mean) / deviation)).clip(min=0)


def total_weight(missing_weight: float, columns: int, rated: Any) -> Any:
    """The sum of the weights of a row's cells: 1 for each rated one, `missing_weight` for each other one."""
    return missing_weight * columns + (1 - missing_weight) * rated


def penalty(regularisation: float, weights: Any, exponent: float) -> Any:
    """What ‖x‖² costs a row whose cells have these weights in all."""
    return regularisation * weights**exponent


class RelevanceRule(BaseModel):
    """The rule as a checkpoint keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    deviation: Annotated[float, Field(gt=0)]
    slope: Annotated[float, Field(ge=0)]
    missing_weight: Annotated[float, Field(gt=0, lt=1)]
    regularisation: Annotated[float, Field(gt=0)]
    exponent: Annotated[float, Field(ge=0, le=1)]
    solved_factors: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class RelevanceHead:
    """A second pair of factor tables, whose last rows stand for unknown ids, and what users are folded in with."""

    user_factors: Tensor  # X, float32, (U+1, G)
    item_factors: Tensor  # Y, float32, (I+1, G)
    summed_factors: Tensor  # N, float32, (I+1, G): what a rating of each item adds to a user's row, per unit of target
    rule: RelevanceRule  # how a user's row follows from their ratings, Y and N

    @property
    def factors(self) -> int:
        """G, the rank of X·Yᵀ."""
        return self.user_factors.shape[1]

    def tensors(self) -> Mapping[str, Tensor]:
        """The tables by name, as a checkpoint stores them."""
        return {
            "user_factors": self.user_factors,
            "item_factors": self.item_factors,
            "summed_factors": self.summed_factors,
        }

    def to(self, device: torch.device | str) -> RelevanceHead:
        tables: dict[str, Any] = {name: table.to(device) for name, table in self.tensors().items()}
        return replace(self, **tables)


class HeadSolver:
    """A user's row of a head from their ratings, as `training.fit.relevance` computes those of its users.

    In the solved row a rated item has the target of its rating and weight 1, any other item target 0 and weight w:
    (w YᵀY + (1−w) Σ y_i y_iᵀ + penalty) x = Σ t_i y_i over the rated. Hu, Koren and Volinsky 2008, eq. 4.
    YᵀY is over the items that the head was fitted to: the first `fitted` ones, or all. Others came later.
    """

    def __init__(self, head: RelevanceHead, fitted: int | None = None) -> None:
        self._rule, self._unknown_G = head.rule, head.user_factors[-1].cpu().numpy()
        self._factors_IG, self._summed_IG = head.item_factors[:-1], head.summed_factors[:-1]
        self._fitted = len(self._factors_IG) if fitted is None else fitted
        gram_HH = gram(self._factors_IG[: self._fitted, : head.rule.solved_factors])
        self._values_H, self._axes_HH = np.linalg.eigh(gram_HH.cpu().numpy())

    def solve(self, items_N: Rows, ratings_N: npt.NDArray[np.floating]) -> Floats:
        """x, float32, (G,), of the items that were rated, each at most once. None: the row of unknown users."""
        if len(items_N) == 0:
            return self._unknown_G
        targets_N = self._targets(ratings_N)
        x_G = targets_N @ _float64(self._summed_IG, items_N)
        features_NH = self._features(items_N)
        diagonal_H, weight = self._diagonal(len(items_N)), 1 - self._rule.missing_weight
        x_G[: len(diagonal_H)] += self._axes_HH @ _ridge(features_NH, diagonal_H, weight, features_NH.T @ targets_N)
        folded: Floats = x_G.astype(np.float32)
        return folded

    def contributions(self, items_N: Rows, ratings_N: npt.NDArray[np.floating], target: int) -> npt.NDArray[np.float64]:
        """How much each rating adds to the score of the item `target`, float64, (N,). Their sum is the score.

        Which items were rated decides what a rating of each is worth; the score is linear in the ratings' targets.
        """
        y_G = _float64(self._factors_IG, np.array([target]))[0]
        features_NH, weight = self._features(items_N), 1 - self._rule.missing_weight
        diagonal_H = self._diagonal(len(items_N))
        solved_H = _ridge(features_NH, diagonal_H, weight, y_G[: len(diagonal_H)] @ self._axes_HH)
        parts_N: npt.NDArray[np.float64] = self._targets(ratings_N) * (
            features_NH @ solved_H + _float64(self._summed_IG, items_N) @ y_G
        )
        return parts_N

    def _targets(self, ratings_N: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        rule = self._rule
        found_N: npt.NDArray[np.float64] = targets(ratings_N.astype(np.float64), rule.mean, rule.deviation, rule.slope)
        return found_N

    def _features(self, items_N: Rows) -> npt.NDArray[np.float64]:
        """The solved factors of items along the axes of all items' Gram matrix, (N, H)."""
        features_NH: npt.NDArray[np.float64] = (
            _float64(self._factors_IG, items_N)[:, : len(self._values_H)] @ self._axes_HH
        )
        return features_NH

    def _diagonal(self, count: int) -> npt.NDArray[np.float64]:
        """The normal equations along these axes, without the rated items, of a user with so many ratings."""
        rule = self._rule
        in_all = total_weight(rule.missing_weight, self._fitted, count)
        found_H: npt.NDArray[np.float64] = rule.missing_weight * self._values_H + penalty(
            rule.regularisation, in_all, rule.exponent
        )
        return found_H


def _ridge(features_NH: Any, diagonal_H: Any, weight: float, right_H: Any) -> Any:
    """The solution x of (diag + weight · FᵀF) x = right, in the smaller of two equal forms (Woodbury 1950)."""
    count = len(features_NH)
    if count <= len(diagonal_H):
        scaled_NH = features_NH / diagonal_H
        gram_NN = weight * (scaled_NH @ features_NH.T)
        gram_NN.flat[:: count + 1] += 1
        return right_H / diagonal_H - weight * scaled_NH.T @ np.linalg.solve(gram_NN, scaled_NH @ right_H)
    gram_HH = weight * (features_NH.T @ features_NH)
    gram_HH.flat[:: len(diagonal_H) + 1] += diagonal_H
    return np.linalg.solve(gram_HH, right_H)


def _float64(table_RG: Tensor, rows_N: Rows) -> npt.NDArray[np.float64]:
    """Some rows of a table on any device."""
    found_NG: npt.NDArray[np.float64] = (
        table_RG[torch.from_numpy(rows_N).to(table_RG.device)].cpu().numpy().astype(np.float64)
    )
    return found_NG


def gram(table_RG: Tensor) -> Tensor:
    """YᵀY in float64, without a float64 copy of the table."""
    gram_GG = torch.zeros(table_RG.shape[1], table_RG.shape[1], dtype=torch.float64, device=table_RG.device)
    for part_RG in table_RG.split(1 << 16):
        gram_GG += part_RG.double().T @ part_RG.double()
    return gram_GG
