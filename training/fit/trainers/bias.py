"""The baseline that other models must beat: r̂_ui = μ + b_u + b_i, with regularised biases and no factors.

Koren, "Factor in the neighbors" (2010), section 2.1: b_i = Σ_u (r_ui − μ − b_u) / (λ_i + n_i) and b_u alternately.
Shapes: U users, I items, N training ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization, with_average_row
from training.fit.loop import fit
from training.fit.trainer import Trainer, TrainerSettings, TrainingSet


class BiasSettings(TrainerSettings):
    """Settings of `bias`. A regularisation of λ acts like λ more ratings at the mean."""

    epochs: int = Field(default=10, ge=1, description="passes over the ratings")
    user_regularisation: float = Field(
        default=15.0, ge=0, description="how many ratings at the mean are added to those of a user"
    )
    item_regularisation: float = Field(
        default=10.0, ge=0, description="how many ratings at the mean are added to those of an item"
    )


class Bias(Trainer[BiasSettings]):
    """Exact alternating minimisation of the regularised squared error."""

    Settings = BiasSettings
    TABLES = (("user_bias", "user_bias_U"), ("item_bias", "item_bias_I"))
    distributes = True

    def __init__(self, data: TrainingSet, settings: BiasSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self.epochs = settings.epochs
        self.mean = data.communicator.mean(data.ratings_N)
        self.user_bias_U = torch.zeros(data.users, dtype=torch.float64, device=data.device)
        self.item_bias_I = torch.zeros(data.items, dtype=torch.float64, device=data.device)
        self._centred_N = data.ratings_N - self.mean
        self._user_counts_U, self._item_counts_I = data.user_counts(), data.item_totals()
        self._ratings = data.total()

    def epoch(self) -> Mapping[str, Tensor]:
        users_N, items_N = self.data.users_N, self.data.items_N
        sums_I = torch.zeros_like(self.item_bias_I).index_add_(0, items_N, self._centred_N - self.user_bias_U[users_N])
        sums_I = self.data.communicator.sum(sums_I)
        self.item_bias_I = sums_I / (self.settings.item_regularisation + self._item_counts_I)
        residual_N = self._centred_N - self.item_bias_I[items_N]
        sums_U = torch.zeros_like(self.user_bias_U).index_add_(0, users_N, residual_N)
        self.user_bias_U = sums_U / (self.settings.user_regularisation + self._user_counts_U)
        squares = (residual_N - self.user_bias_U[users_N]).square().sum()
        return {"loss": self.data.communicator.sum(squares) / self._ratings}

    def model(self) -> MatrixFactorization:
        data = self.data
        return MatrixFactorization(
            self.mean.float(),
            torch.zeros(data.users + 1, 0, device=data.device),
            torch.zeros(data.items + 1, 0, device=data.device),
            data.communicator.with_average_row(self.user_bias_U.float(), self._user_counts_U),
            with_average_row(self.item_bias_I.float(), self._item_counts_I),
        )

    @classmethod
    def side_of(cls, name: str) -> Literal["user", "item"] | None:
        return "user" if name == "user_bias" else None


def bias_model(data: TrainingSet) -> MatrixFactorization:
    """The bias model of some ratings, with the default settings."""
    trainer = Bias(data, BiasSettings(), np.random.default_rng(0))
    fit(trainer, None, lambda _: None)
    return trainer.model()
