"""The relevance head: the tables that order lists, s_ui = x_u · y_i, and how a user is folded into them.

A score is no rating and has no scale. This module does not know how the tables were fitted, but the rule by which they
are: a row solves Σ weight·(target − x·y)² over all cells plus penalty·‖x‖². Shapes: U users, I items, G factors, N
ratings of one user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class RelevanceHead:
    """A second pair of factor tables, whose last rows stand for unknown ids."""

    user_factors: Tensor  # X, float32, (U+1, G)
    item_factors: Tensor  # Y, float32, (I+1, G)
    rule: RelevanceRule  # how a user's row follows from their ratings and Y

    @property
    def factors(self) -> int:
        """G, the rank of X·Yᵀ."""
        return self.user_factors.shape[1]

    def tensors(self) -> Mapping[str, Tensor]:
        """The tables by name, as a checkpoint stores them."""
        return {"user_factors": self.user_factors, "item_factors": self.item_factors}

    def to(self, device: torch.device | str) -> RelevanceHead:
        return RelevanceHead(self.user_factors.to(device), self.item_factors.to(device), self.rule)


class HeadSolver:
    """A user's row of a head from their ratings: least squares over all items, as `training.fit.relevance`.

    A rated item has the target of its rating and weight 1, any other item target 0 and weight w:
    (w YᵀY + (1−w) Σ y_i y_iᵀ + penalty) x = Σ t_i y_i over the rated. Hu, Koren and Volinsky 2008, eq. 4.
    """

    def __init__(self, head: RelevanceHead) -> None:
        self._factors_IG, self._unknown_G = head.item_factors[:-1], head.user_factors[-1].cpu().numpy()
        self._rule = head.rule
        self._values_G, self._axes_GG = np.linalg.eigh(_gram(self._factors_IG).cpu().numpy())

    def solve(self, items_N: Rows, ratings_N: npt.NDArray[np.floating]) -> Floats:
        """x, float32, (G,), of the items that were rated, each at most once. None: the row of unknown users."""
        if len(items_N) == 0:
            return self._unknown_G
        features_NG, targets_N = self._features(items_N), self._targets(ratings_N)
        folded: Floats = (self._axes_GG @ self._solved(features_NG, features_NG.T @ targets_N)).astype(np.float32)
        return folded

    def contributions(self, items_N: Rows, ratings_N: npt.NDArray[np.floating], target: int) -> npt.NDArray[np.float64]:
        """How much each rating adds to the score of the item `target`, float64, (N,). Their sum is the score.

        Which items were rated decides what a rating of each is worth; the score is linear in the ratings' targets.
        """
        features_NG, y_G = self._features(items_N), self._features(np.array([target]))[0]
        parts_N: npt.NDArray[np.float64] = self._targets(ratings_N) * (features_NG @ self._solved(features_NG, y_G))
        return parts_N

    def _targets(self, ratings_N: npt.NDArray[np.floating]) -> Any:
        rule = self._rule
        return targets(ratings_N.astype(np.float64), rule.mean, rule.deviation, rule.slope)

    def _features(self, items_N: Rows) -> Any:
        """The factors of items along the axes of all items' Gram matrix, float64, (N, G)."""
        rows_N = torch.from_numpy(items_N).to(self._factors_IG.device)
        return self._factors_IG[rows_N].cpu().numpy().astype(np.float64) @ self._axes_GG

    def _solved(self, features_NG: Any, right_G: Any) -> Any:
        """The solution of a row's normal equations, whose rated items have these features, for a right-hand side."""
        rule, count = self._rule, len(features_NG)
        weight = 1 - rule.missing_weight
        in_all = total_weight(rule.missing_weight, len(self._factors_IG), count)
        diagonal_G = rule.missing_weight * self._values_G + penalty(rule.regularisation, in_all, rule.exponent)
        if count <= len(diagonal_G):
            scaled_NG = features_NG / diagonal_G
            gram_NN = weight * (scaled_NG @ features_NG.T)
            gram_NN.flat[:: count + 1] += 1
            return right_G / diagonal_G - weight * (scaled_NG.T @ np.linalg.solve(gram_NN, scaled_NG @ right_G))
        gram_GG = weight * (features_NG.T @ features_NG)
        gram_GG.flat[:: len(diagonal_G) + 1] += diagonal_G
        return np.linalg.solve(gram_GG, right_G)


def _gram(table_RG: Tensor) -> Tensor:
    """YᵀY in float64, without a float64 copy of the table."""
    gram_GG = torch.zeros(table_RG.shape[1], table_RG.shape[1], dtype=torch.float64, device=table_RG.device)
    for part_RG in table_RG.split(1 << 16):
        gram_GG += part_RG.double().T @ part_RG.double()
    return gram_GG
