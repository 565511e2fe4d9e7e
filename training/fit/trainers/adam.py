"""Matrix factorization by stochastic gradients: mean squared error, Adam, weight decay on every table, no μ.

With the settings of the preset `textbook` this is the recipe of Dive into Deep Learning, section 21.3.
Shapes: U users, I items, F factors, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.mf import MatrixFactorization, with_average_row
from training.fit.kernels.collapse import ranked
from training.fit.minibatch import captured, one_thread_for_small_steps, pass_over
from training.fit.trainer import Trainer, TrainerSettings, TrainingSet


class AdamSettings(TrainerSettings):
    """Settings of `adam`. Factors start as normal draws with `initial_deviation`, biases at zero."""

    factors: int = Field(default=30, ge=1, le=4096, description="numbers that describe each user and each item")
    epochs: int = Field(default=20, ge=1, description="passes over the ratings")
    batch_size: int = Field(default=512, ge=1, description="ratings in each step")
    learning_rate: float = Field(default=0.002, gt=0, description="size of a step")
    weight_decay: float = Field(default=1e-5, ge=0, description="how strongly factors are held near zero")
    initial_deviation: float = Field(default=0.01, ge=0, description="standard deviation of the factors at the start")


class Adam(Trainer[AdamSettings]):
    """All parameters are in one table, [p_u, b_u] above [q_i, b_i]: one gather, one update per step."""

    Settings = AdamSettings

    def __init__(self, data: TrainingSet, settings: AdamSettings, rng: np.random.Generator) -> None:
        super().__init__(data, settings, rng)
        self.epochs = settings.epochs
        self._seed = int(rng.integers(2**62))
        self._passes = 0
        table = torch.zeros(data.users + data.items, settings.factors + 1)
        table[:, :-1].normal_(0, settings.initial_deviation, generator=torch.Generator().manual_seed(self._seed))
        self.table = table.to(data.device)
        self.table.grad = torch.zeros_like(self.table)
        self.squared_error = torch.zeros((), device=data.device)
        self._optimizer = torch.optim.Adam(
            [self.table],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=data.device.type in ("cpu", "cuda"),
            capturable=data.device.type == "cuda",
        )
        self._step = captured(self.step, settings.batch_size, data.device)

    @classmethod
    def memory_bytes(cls, users: int, items: int, ratings: int, settings: AdamSettings) -> int:
        tables = 4 * 4 * (users + items) * (settings.factors + 1)  # parameters, gradient and the two moments
        return super().memory_bytes(users, items, ratings, settings) + 28 * ratings + tables  # 28: shuffled

    def epoch(self) -> Mapping[str, Tensor]:
        self._passes += 1
        self.squared_error.zero_()
        with one_thread_for_small_steps(self.table.numel()):
            pass_over(self.data, self.settings.batch_size, self._seed + self._passes, self._step)
        return {"loss": self.squared_error / len(self.data)}

    def step(self, users_B: Tensor, items_B: Tensor, ratings_B: Tensor) -> None:
        """One update from the mean squared error of a batch, e = p·q + b_u + b_i − r:
        ∂/∂[p_u, b_u] = 2/B·Σ e·[q_i, 1], and likewise for the item."""
        batch = len(ratings_B)
        rows_2B = torch.cat([users_B, items_B + self.data.users])
        table_2BF = self.table.index_select(0, rows_2B).view(2, batch, -1)
        bias_B = table_2BF[:, :, -1].sum(0)
        table_2BF[:, :, -1] = 0
        error_B = (table_2BF[0] * table_2BF[1]).sum(1) + bias_B - ratings_B
        self.squared_error += error_B.dot(error_B)
        table_2BF[:, :, -1] = 1
        table_2BF *= (error_B * (2 / batch))[:, None]
        assert self.table.grad is not None  # noqa: S101 - set in __init__; the optimizer keeps it
        self.table.grad.zero_().index_add_(0, rows_2B, table_2BF.flip(0).view(2 * batch, -1))
        self._optimizer.step()

    def model(self) -> MatrixFactorization:
        users, items = self.table[: self.data.users], self.table[self.data.users :]
        counts_U, counts_I = self.data.user_counts(), self.data.item_totals()
        return MatrixFactorization(
            torch.zeros((), device=self.data.device),
            with_average_row(users[:, :-1], counts_U),
            with_average_row(items[:, :-1], counts_I),
            with_average_row(users[:, -1], counts_U),
            with_average_row(items[:, -1], counts_I),
        )

    def warm_start(self, model: MatrixFactorization) -> bool:
        factors = self.settings.factors
        tables = ranked(model.user_factors[:-1], model.item_factors[:-1], factors)
        rows = (self.table[: self.data.users], self.table[self.data.users :])
        with torch.no_grad():
            for table_RF, factors_RF, bias_R in zip(rows, tables, (model.user_bias, model.item_bias), strict=True):
                table_RF[:, : factors_RF.shape[1]] = factors_RF
                table_RF[:, -1] = bias_R[:-1]
            self.table[: self.data.users, -1] += model.mean  # this model has no μ
        return True

    def state(self) -> Mapping[str, Tensor]:
        moments = {key: value.clone() for key, value in self._optimizer.state[self.table].items()}
        counters = {"seed": torch.tensor(self._seed), "passes": torch.tensor(self._passes)}
        return {"table": self.table.clone()} | counters | moments

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._seed, self._passes = int(state["seed"]), int(state["passes"])
        self.table.copy_(state["table"])
        moments = {key: value.clone() for key, value in state.items() if key not in ("table", "seed", "passes")}
        self._optimizer.state[self.table] = moments
