"""Matrix factorization by coordinate descent: each number is solved for exactly, one column of factors after another.

Yu, Hsieh, Si and Dhillon, "Scalable coordinate descent approaches to parallel matrix factorization for recommender
systems" (2012), with biases as one more pair of columns.
Shapes: U users, I items, F factors, N training ratings, R rows of one side.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization
from training.fit.trainer import Trainer, TrainerSettings, TrainingSet


class CoordinateSettings(TrainerSettings):
    """Settings of `coordinate`. Ratings are standardised before they are fitted, so none depends on their scale."""

    factors: int = Field(default=8, ge=1)
    sweeps: int = Field(default=12, ge=1)
    regularisation: float = Field(default=10.0, gt=0)


class Coordinate(Trainer[CoordinateSettings]):
    """An epoch goes once over the biases and over every column of factors, first the users' part, then the items'."""

    Settings = CoordinateSettings

    def __init__(self, data: TrainingSet, settings: CoordinateSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self.mean, self.deviation = data.standardisation()
        start_FI = 0.1 * rng.standard_normal((settings.factors, data.items), dtype=np.float32)
        self.item_FI = torch.from_numpy(start_FI).to(data.device)
        self.user_FU = torch.zeros(settings.factors, data.users, device=data.device)
        self.user_bias_U = torch.zeros(data.users, device=data.device)
        self.item_bias_I = torch.zeros(data.items, device=data.device)

    @property
    def epochs(self) -> int:
        return self.settings.sweeps

    def epoch(self) -> Mapping[str, Tensor]:
        users_N, items_N = self.data.users_N, self.data.items_N
        left_N = self._residual()
        ones_N = torch.ones_like(left_N)
        self._solve(self.user_bias_U, users_N, ones_N, left_N)
        self._solve(self.item_bias_I, items_N, ones_N, left_N)
        for p_U, q_I in zip(self.user_FU, self.item_FI, strict=True):
            self._solve(p_U, users_N, q_I[items_N], left_N)
            self._solve(q_I, items_N, p_U[users_N], left_N)
        return {"loss": left_N.square().mean() * self.deviation.square()}

    def _solve(self, column_R: Tensor, rows_N: Tensor, feature_N: Tensor, left_N: Tensor) -> None:
        """For each row minimise Σ (left − x · feature)² + regularisation · x². In place: the column, what is left."""
        left_N += column_R[rows_N] * feature_N
        sums_R = torch.zeros_like(column_R).index_add_(0, rows_N, left_N * feature_N)
        squares_R = torch.zeros_like(column_R).index_add_(0, rows_N, feature_N.square())
        column_R.copy_(sums_R / (self.settings.regularisation + squares_R))
        left_N -= column_R[rows_N] * feature_N

    def _residual(self) -> Tensor:
        users_N, items_N = self.data.users_N, self.data.items_N
        left_N = ((self.data.ratings_N - self.mean) / self.deviation).float()
        left_N -= self.user_bias_U[users_N] + self.item_bias_I[items_N]
        for p_U, q_I in zip(self.user_FU, self.item_FI, strict=True):
            left_N -= p_U[users_N] * q_I[items_N]
        return left_N

    def model(self) -> MatrixFactorization:
        deviation = self.deviation.float()
        return MatrixFactorization.from_rated(
            mean=self.mean.float(),
            user_factors=self.user_FU.T.contiguous() * deviation.sqrt(),
            item_factors=self.item_FI.T.contiguous() * deviation.sqrt(),
            user_bias=self.user_bias_U * deviation,
            item_bias=self.item_bias_I * deviation,
            user_counts=self.data.user_counts(),
            item_counts=self.data.item_counts(),
        )

    def state(self) -> Mapping[str, Tensor]:
        return {name: table.clone() for name, table in self._tables().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, table in self._tables().items():
            table.copy_(state[name])

    def _tables(self) -> dict[str, Tensor]:
        return {
            "user_factors": self.user_FU,
            "item_factors": self.item_FI,
            "user_bias": self.user_bias_U,
            "item_bias": self.item_bias_I,
        }
