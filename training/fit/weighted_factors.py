"""Factors of users and items by weighted least squares over all cells, rated or not.

Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets" (2008), with the penalty of Rendle,
Krichene, Zhang and Koren, "Revisiting the performance of iALS on item recommendation benchmarks" (2022), where the
rating is in the weight alone; here it is in the target. This module does not know what else orders lists.
Shapes: U users, I items, H factors, N training ratings, R rows and C columns of one side, K width of a table: H up to a
multiple of 8.
"""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from models.relevance import penalty, targets, total_weight
from training.communicator import drawn_rows
from training.fit.kernels.als import group_rows
from training.fit.kernels.als_cpu import compile_for
from training.fit.kernels.als_rows import HalfStep, Solver
from training.fit.kernels.tiles import padded_width
from training.fit.relevance_settings import RelevanceSettings
from training.fit.trainer import TrainingSet

START_DEVIATION = 0.1  # of the item factors; from 0.01 to 1 NDCG@10 after ten sweeps is the same to 0.0003


def rating_targets(data: TrainingSet, slope: float) -> Tensor:
    """The target of each rating, float32, (N,)."""
    mean, deviation = data.standardisation()
    targets_N: Tensor = targets(data.ratings_N, mean.float(), deviation.float(), slope)
    return targets_N


class WeightedFactors:
    """Alternating least squares over all cells. In a sweep every user's row is solved, then every item's.

    Unrated cells, observations of 0 with weight w, are never visited: the normal equations of a row are those of its
    rated cells with weight 1 − w, and w times the Gram matrix of all columns, which is one for all rows. The rows of
    `als` with that matrix as their prior solve them, divided by 1 − w.

    Attributes:
        regularisation: may be changed between sweeps.
        items_IK: the rows of this rank's items.
    """

    def __init__(self, data: TrainingSet, settings: RelevanceSettings) -> None:
        self.data, self.settings, self.regularisation = data, settings, settings.regularisation
        self._width = padded_width(settings.factors, biased=False)
        self.items_IK = torch.zeros(len(data.item_span), self._width, device=data.device)
        self._user_counts_U, self._item_counts_I = data.user_counts(), data.item_totals()
        self._ratings = data.total()
        if data.device.type == "cpu":
            compile_for(self._width, distributed=data.communicator.size > 1, weighted=data.weights_N is not None)

    def start(self, rng: np.random.Generator) -> None:
        """Draw the items' rows."""
        start_IH = drawn_rows(rng, self.data.item_span, self.settings.factors)
        self.items_IK[:, : self.settings.factors] = START_DEVIATION * torch.from_numpy(start_IH)

    def sweep(self) -> Tensor:
        """Solve all rows once. Return the weighted squared error over all cells before the penalty, per rating."""
        _, items = self._sides
        users_UK, counts_I = self._solved_users(), self._item_counts_I[self.data.item_span.rows]
        error = self._solve(items, users_UK, self.data.user_span.total, counts_I, self.items_IK)
        squares = self.data.communicator.sum(self._targets_N.square().sum(dtype=torch.float64))
        weight = 1 - self.settings.missing_weight
        return (weight * error - squares * (1 / weight - 1)) / self._ratings

    def users_UH(self) -> Tensor:
        """The users' rows as they follow from the items'."""
        return self._solved_users()[:, : self.settings.factors]

    def items_IH(self) -> Tensor:
        """All items' rows, on every rank."""
        items_IK = self.data.communicator.gathered(self.items_IK, self.data.item_span)
        return items_IK[:, : self.settings.factors]

    def _solved_users(self) -> Tensor:
        users_UK = torch.zeros(self.data.users, self._width, device=self.data.device)
        self._solve(self._sides[0], self.items_IK, self.data.items, self._user_counts_U, users_UK)
        return users_UK

    def _solve(self, rows: Solver, other_CK: Tensor, columns: int, counts_R: Tensor, out_RK: Tensor) -> Tensor:
        """Solve the rows against all `columns`; return their error and that of unrated cells, divided by 1 − w."""
        settings = self.settings
        weight = 1 - settings.missing_weight
        weights_R = total_weight(settings.missing_weight, columns, counts_R).float()
        ridge_R = penalty(self.regularisation / weight, weights_R, settings.exponent)
        gram_KK = settings.missing_weight / weight * self.data.communicator.sum(other_CK.T @ other_CK)
        return rows.solve(HalfStep(other_CK, ridge_R, prior_KK=gram_KK), out_RK)

    @cached_property
    def _targets_N(self) -> Tensor:
        return rating_targets(self.data, self.settings.slope)

    @cached_property
    def _sides(self) -> tuple[Solver, Solver]:
        """Users and items. Grouping the ratings is a part of fitting, so the first sweep does it."""
        scale = 1 / (1 - self.settings.missing_weight)
        make = partial(group_rows, width=self._width, scale=scale)
        return self.data.als_sides(self._targets_N, make, self._width)
