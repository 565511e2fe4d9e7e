"""Fitting the relevance head: what orders lists. It knows ratings and cells, not the rating model beside it.

Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets" (2008), with the penalty of Rendle,
Krichene, Zhang and Koren, "Revisiting the performance of iALS on item recommendation benchmarks" (2022), where the
rating is in the weight alone; here it is in the target.
Shapes: U users, I items, G factors, N training ratings, R rows and C columns of one side, K width of a table: G up to a
multiple of 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.mf import with_average_row
from models.relevance import RelevanceHead, RelevanceRule, penalty, targets, total_weight
from training.communicator import drawn_rows
from training.fit.kernels.als import group_rows
from training.fit.kernels.als_cpu import compile_for
from training.fit.kernels.als_rows import HalfStep, Solver
from training.fit.kernels.tiles import padded_width
from training.fit.trainer import TrainingSet

START_DEVIATION = 0.1  # of the item factors; from 0.01 to 1 NDCG@10 after ten sweeps is the same to 0.0003


class RelevanceSettings(BaseModel):
    """Settings of the head: what a preset's `[relevance]` and `--set relevance.KEY=VALUE` may name.

    The target of a rating r is 1 + slope · (r − mean) / deviation, at least 0: no setting depends on the scale of the
    ratings. A cell without a rating has target 0 and weight `missing_weight` beside the 1 of a rating. A row pays
    regularisation · (sum of the weights of its cells)^exponent · |factors|².
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    factors: int = Field(default=64, ge=1, le=1024)
    sweeps: int = Field(default=10, ge=1)
    slope: float = Field(default=0.28, ge=0)
    missing_weight: float = Field(default=0.25, gt=0, lt=1)
    regularisation: float = Field(default=0.4, gt=0)
    exponent: float = Field(default=0.5, ge=0, le=1)


class RelevanceFit:
    """Least squares over all cells; an epoch is a sweep: every user's row is solved, then every item's.

    Unrated cells, observations of 0 with weight w, are never visited: the normal equations of a row are those of its
    rated cells with weight 1 − w, and w times the Gram matrix of all columns, which is one for all rows. The rows of
    `als` with that matrix as their prior solve them, divided by 1 − w.
    """

    def __init__(self, data: TrainingSet, settings: RelevanceSettings, rng: np.random.Generator) -> None:
        self.data, self.settings, self.epochs = data, settings, settings.sweeps
        width = padded_width(settings.factors, biased=False)
        self._users_UK = torch.zeros(data.users, width, device=data.device)
        self._items_IK = torch.zeros(len(data.item_span), width, device=data.device)
        start_IG = drawn_rows(rng, data.item_span, settings.factors)
        self._items_IK[:, : settings.factors] = START_DEVIATION * torch.from_numpy(start_IG)
        self._user_counts_U, self._item_counts_I = data.user_counts(), data.item_totals()
        self._ratings = data.total()
        if data.device.type == "cpu":
            compile_for(width, distributed=data.communicator.size > 1)

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: RelevanceSettings) -> int:
        """The ratings as given, their targets, these grouped by user and by item; the tables once more as a head."""
        tables = 4 * (users + items) * padded_width(settings.factors, biased=False)
        return (12 + 4 + 2 * 8) * ratings + 2 * tables + 40 * (users + items)

    def epoch(self) -> Mapping[str, Tensor]:
        """Sweep once. `loss` is the weighted squared error over all cells before the penalty, per rating."""
        users, items = self._sides
        counts_I = self._item_counts_I[self.data.item_span.rows]
        self._solve(users, self._items_IK, self.data.items, self._user_counts_U, self._users_UK)
        error = self._solve(items, self._users_UK, self.data.user_span.total, counts_I, self._items_IK)
        squares = self.data.communicator.sum(self._targets_N.square().sum(dtype=torch.float64))
        weight = 1 - self.settings.missing_weight
        return {"loss": (weight * error - squares * (1 / weight - 1)) / self._ratings}

    def _solve(self, rows: Solver, other_CK: Tensor, columns: int, counts_R: Tensor, out_RK: Tensor) -> Tensor:
        """Solve the rows against all `columns`; return their error and that of unrated cells, divided by 1 − w."""
        settings = self.settings
        weight = 1 - settings.missing_weight
        weights_R = total_weight(settings.missing_weight, columns, counts_R).float()
        ridge_R = penalty(settings.regularisation / weight, weights_R, settings.exponent)
        gram_KK = settings.missing_weight / weight * self.data.communicator.sum(other_CK.T @ other_CK)
        return rows.solve(HalfStep(other_CK, ridge_R, prior_KK=gram_KK), out_RK)

    @cached_property
    def _targets_N(self) -> Tensor:
        mean, deviation = self.data.standardisation()
        targets_N: Tensor = targets(self.data.ratings_N, mean.float(), deviation.float(), self.settings.slope)
        return targets_N

    @cached_property
    def _sides(self) -> tuple[Solver, Solver]:
        """Users and items. Grouping the ratings is a part of fitting, so the first epoch does it."""
        width, scale = self._users_UK.shape[1], 1 / (1 - self.settings.missing_weight)
        return self.data.als_sides(self._targets_N, partial(group_rows, width=width, scale=scale), width)

    def model(self) -> RelevanceHead:
        """The head as fitted so far, on the device of the data. A user without ratings has the row of unknown ones."""
        factors, data = self.settings.factors, self.data
        mean, deviation = data.standardisation()
        settings = self.settings.model_dump(exclude={"factors", "sweeps"})
        items_IK = data.communicator.gathered(self._items_IK, data.item_span)
        head = RelevanceHead(
            data.communicator.with_average_row(self._users_UK[:, :factors], self._user_counts_U),
            with_average_row(items_IK[:, :factors], self._item_counts_I),
            RelevanceRule(mean=float(mean), deviation=float(deviation), **settings),
        )
        head.user_factors[:-1][self._user_counts_U == 0] = head.user_factors[-1]
        return head
