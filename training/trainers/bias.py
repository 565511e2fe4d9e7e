"""The baseline that every other model must beat: r̂_ui = μ + b_u + b_i, with regularised biases and no factors.

Koren, "Factor in the neighbors" (2010), section 2.1: b_i = Σ_u (r_ui − μ − b_u) / (λ_i + n_i) and b_u alternately.
Shapes: U users, I items, N training ratings.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization
from training.trainer import Trainer, TrainerSettings, TrainingSet


class BiasSettings(TrainerSettings):
    """Settings of `bias`. The regularisations count like so many ratings at the mean."""

    epochs: int = Field(default=10, ge=1)
    user_regularisation: float = Field(default=15.0, ge=0)
    item_regularisation: float = Field(default=10.0, ge=0)


class Bias(Trainer[BiasSettings]):
    """Exact alternating minimisation of the regularised squared error."""

    Settings = BiasSettings

    def __init__(self, data: TrainingSet, settings: BiasSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self.mean = data.ratings_N.double().mean()
        self.user_bias_U = torch.zeros(data.users, dtype=torch.float64, device=data.device)
        self.item_bias_I = torch.zeros(data.items, dtype=torch.float64, device=data.device)
        self._centred_N = data.ratings_N - self.mean
        self._user_counts_U, self._item_counts_I = data.user_counts(), data.item_counts()

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    def epoch(self) -> Mapping[str, Tensor]:
        users_N, items_N = self.data.users_N, self.data.items_N
        sums_I = torch.zeros_like(self.item_bias_I).index_add_(0, items_N, self._centred_N - self.user_bias_U[users_N])
        self.item_bias_I = sums_I / (self.settings.item_regularisation + self._item_counts_I)
        residual_N = self._centred_N - self.item_bias_I[items_N]
        sums_U = torch.zeros_like(self.user_bias_U).index_add_(0, users_N, residual_N)
        self.user_bias_U = sums_U / (self.settings.user_regularisation + self._user_counts_U)
        return {"loss": (residual_N - self.user_bias_U[users_N]).square().mean()}

    def model(self) -> MatrixFactorization:
        return MatrixFactorization.from_rated(
            mean=self.mean.float(),
            user_factors=torch.zeros(self.data.users, 0, device=self.data.device),
            item_factors=torch.zeros(self.data.items, 0, device=self.data.device),
            user_bias=self.user_bias_U.float(),
            item_bias=self.item_bias_I.float(),
            user_counts=self._user_counts_U,
            item_counts=self._item_counts_I,
        )

    def state(self) -> Mapping[str, Tensor]:
        return {"user_bias": self.user_bias_U.clone(), "item_bias": self.item_bias_I.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.user_bias_U, self.item_bias_I = state["user_bias"].clone(), state["item_bias"].clone()
