"""The served form of every model: r̂_ui = μ + b_u + b_i + p_u·q_i.

This module does not know how the tables were fitted. Shapes: U users, I items, F factors, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from models.scoring import BilinearForm, Side

TENSORS = ("mean", "user_factors", "item_factors", "user_bias", "item_bias")
VARIANCES = ("noise_variance", "user_variance", "item_variance", "interval_deviations")
CENTRAL_90 = NormalDist().inv_cdf(0.95)  # standard deviations from the mean of a normal distribution to 5 % and 95 %


@dataclass(slots=True, eq=False)
class MatrixFactorization:
    """Matrix factorization with biases (Koren, Bell and Volinsky 2009, eq. 4).

    Every table has one row more than there are users (items). The last row stands for a user (item) without training
    ratings, so that an unknown id is an index like any other and a batch needs no branches.
    """

    mean: Tensor  # μ, shape ()
    user_factors: Tensor  # P, shape (U+1, F)
    item_factors: Tensor  # Q, shape (I+1, F)
    user_bias: Tensor  # b_u, shape (U+1,)
    item_bias: Tensor  # b_i, shape (I+1,)
    noise_variance: Tensor | None = None  # of a rating around its expectation, shape (); None if unknown
    user_variance: Tensor | None = None  # from the uncertainty of the user's row, shape (U+1,)
    item_variance: Tensor | None = None  # likewise for the item's row, shape (I+1,)
    # How many standard deviations below r̂ the central 90 % interval begins, and above it ends, shape (2,)
    interval_deviations: Tensor | None = None

    def __post_init__(self) -> None:
        if self.noise_variance is not None and self.interval_deviations is None:
            self.interval_deviations = torch.full((2,), CENTRAL_90, device=self.mean.device)
        for name, table in self.tensors().items():
            setattr(self, name, table.detach())

    @property
    def users(self) -> int:
        """U, the number of known users; also the index of the row for unknown ones."""
        return self.user_bias.shape[0] - 1

    @property
    def items(self) -> int:
        """I, the number of known items; also the index of the row for unknown ones."""
        return self.item_bias.shape[0] - 1

    @property
    def factors(self) -> int:
        """F, the rank of P·Qᵀ."""
        return self.user_factors.shape[1]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def __call__(self, users_B: Tensor, items_B: Tensor) -> Tensor:
        """Predict the rating of each pair, unclipped, shape (B,). Its bits depend on the pair alone."""
        return self.form().exact(users_B, items_B)

    def to(self, device: torch.device | str) -> MatrixFactorization:
        return MatrixFactorization(**{name: table.to(device) for name, table in self.tensors().items()})

    def form(self) -> BilinearForm:
        """The form whose scores are the expected ratings r̂."""
        return BilinearForm(Side(self.user_factors, self.user_bias), Side(self.item_factors, self.item_bias), self.mean)

    def variance(self, users_B: Tensor, items_B: Tensor) -> Tensor | None:
        """Variance of the rating of each pair around its prediction, shape (B,); None if unknown."""
        if self.noise_variance is None or self.user_variance is None or self.item_variance is None:
            return None
        return self.noise_variance + self.user_variance[users_B] + self.item_variance[items_B]

    def intervals(self, users_B: Tensor, items_B: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor] | None:
        """The ends of the central interval of the rating of each pair, unclipped, (B,); None where variances are not
        known.
        """
        variance_B = self.variance(users_B, items_B)
        if variance_B is None or self.interval_deviations is None:
            return None
        return around(self(users_B, items_B), variance_B, self.interval_deviations, level)

    def tensors(self) -> Mapping[str, Tensor]:
        """The tables by name, as a checkpoint stores them: `TENSORS`, and `VARIANCES` if they are known."""
        return {name: table for name in TENSORS + VARIANCES if (table := getattr(self, name)) is not None}


def around(ratings: Any, variance: Any, deviations: Any, level: float = 0.9) -> tuple[Any, Any]:
    """The ends of the central interval of ratings, given their expectations, variances and `interval_deviations`.

    Arrays or tensors. Errors are taken as normal, but for a width of their own on each side.
    """
    deviation = variance**0.5 * (NormalDist().inv_cdf((1 + level) / 2) / CENTRAL_90)
    return ratings - deviations[0] * deviation, ratings + deviations[1] * deviation


def with_average_row(table: Tensor, counts: Tensor) -> Tensor:
    """Append the row for unknown ids, the average of `table` (R, …) weighted by `counts` (R,): shape (R+1, …).

    With the numbers of training ratings as weights, the prediction for an unknown pair is near the mean training
    rating, however a trainer has spread that mean over μ, b_u and b_i.
    """
    weights = (counts / counts.sum().clamp(min=1)).to(table.dtype)
    average = torch.tensordot(weights, table, dims=1)
    return torch.cat([table, average[None]])
