"""Matrix factorization with biases by alternating least squares: all users exactly, then all items, and again.

Zhou, Wilkinson, Schreiber and Pan, "Large-scale parallel collaborative filtering for the Netflix prize" (2008), with
two changes: a row's bias is solved with its factors, and the penalty of a row of n ratings, there weighted by n, is
weighted by n^exponent as in Rendle, Krichene, Zhang and Koren, "Revisiting the performance of iALS" (2022).
Shapes: U users, I items, F factors, N training ratings, K width of a table: factors, zeros up to a multiple of 8, bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization, with_average_row
from training.communicator import drawn_rows
from training.fit.kernels.als import group_rows
from training.fit.kernels.als_cpu import compile_for
from training.fit.kernels.als_rows import HalfStep, Solver
from training.fit.kernels.collapse import ranked
from training.fit.kernels.tiles import padded_width
from training.fit.trainer import Trainer, TrainerSettings, TrainingSet

START_DEVIATION = 0.1  # of the item factors; from 0.1 to 1 the error after five sweeps is the same to 0.0005


class AlsSettings(TrainerSettings):
    """Settings of `als`. Ratings are standardised before they are fitted, so none of these depends on their scale.

    A row of n ratings pays regularisation · n^exponent · |factors|² (exponent 1 is the weighted-λ regularisation of the
    paper, 0 the plain one) and bias_regularisation · bias².
    """

    factors: int = Field(default=31, ge=1, le=1023, description="numbers that describe each user and each item")
    sweeps: int = Field(default=6, ge=1, description="times that all users and then all items are solved")
    regularisation: float = Field(default=1.1, gt=0, description="how strongly factors are held near zero")
    exponent: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="how the regularisation of a row grows with its ratings: 0 not at all, 1 in proportion",
    )
    bias_regularisation: float = Field(default=3.0, gt=0, description="how strongly biases are held near zero")


class Als(Trainer[AlsSettings]):
    """An epoch solves every user's row [p_u, b_u] against the items' [q_i, 1], then every item's against the users'."""

    Settings = AlsSettings
    TABLES = (("user_table", "user_table_UK"), ("item_table", "item_table_IK"))
    distributes = True
    uses_weights = True

    def __init__(self, data: TrainingSet, settings: AlsSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self.epochs = settings.sweeps
        width = padded_width(settings.factors)
        self.user_table_UK = torch.zeros(data.users, width, device=data.device)
        self.item_table_IK = torch.zeros(len(data.item_span), width, device=data.device)
        start_IF = drawn_rows(rng, data.item_span, settings.factors)
        self.item_table_IK[:, : settings.factors] = START_DEVIATION * torch.from_numpy(start_IF)
        self._user_counts_U, self._item_counts_I = data.user_counts(), data.item_totals()
        self._user_weights_U, self._item_weights_I = data.user_weights(), data.item_weights()
        self._mean, self._deviation = data.standardisation()
        self._ratings = data.total()
        if data.device.type == "cpu":
            compile_for(width, distributed=data.communicator.size > 1, weighted=data.weights_N is not None)

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: AlsSettings) -> int:
        """The ratings as given and grouped by user and by item, and the tables once more as a model."""
        tables = 4 * (users + items) * padded_width(settings.factors)
        return (12 + 2 * 8) * ratings + 2 * tables + 40 * (users + items)

    def epoch(self) -> Mapping[str, Tensor]:
        users, items = self._sides
        users.solve(self._half_step(self.item_table_IK, self._user_weights_U), self.user_table_UK)
        weights_I = self._item_weights_I[self.data.item_span.rows]
        error = items.solve(self._half_step(self.user_table_UK, weights_I), self.item_table_IK)
        return {"loss": error * (self._deviation.square() / self._ratings)}

    @cached_property
    def _sides(self) -> tuple[Solver, Solver]:
        """Users and items. Grouping the ratings is a part of fitting, so the first epoch does it."""
        width, shift, scale = self.user_table_UK.shape[1], float(self._mean), 1 / float(self._deviation)
        make = partial(group_rows, width=width, shift=shift, scale=scale)
        return self.data.als_sides(self.data.ratings_N, make, width)

    def _half_step(self, other_CK: Tensor, weights_R: Tensor) -> HalfStep:
        ridge_R = self.settings.regularisation * weights_R.clamp(min=1).float() ** self.settings.exponent
        return HalfStep(other_CK, ridge_R, self.settings.bias_regularisation)

    def model(self) -> MatrixFactorization:
        factors, deviation, data = self.settings.factors, self._deviation.float(), self.data
        users_UK = data.communicator.with_average_row(self.user_table_UK, self._user_counts_U)
        items_IK = data.communicator.gathered(self.item_table_IK, data.item_span)
        items_IK = with_average_row(items_IK, self._item_counts_I)
        return MatrixFactorization(
            self._mean.float(),
            users_UK[:, :factors] * deviation.sqrt(),
            items_IK[:, :factors] * deviation.sqrt(),
            users_UK[:, -1] * deviation,
            items_IK[:, -1] * deviation,
        )

    def warm_start(self, model: MatrixFactorization) -> bool:
        """The first half-step solves the users against the items, so that only the items' start matters."""
        _, factors_IF = ranked(model.user_factors[:-1], model.item_factors[:-1], self.settings.factors)
        deviation = self._deviation.float()
        self.item_table_IK[:, : factors_IF.shape[1]] = factors_IF / deviation.sqrt()
        self.item_table_IK[:, -1] = model.item_bias[:-1] / deviation
        return True
