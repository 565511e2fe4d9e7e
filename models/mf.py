"""The served form of every model: r̂_ui = μ + b_u + b_i + p_u·q_i.

This module does not know how the tables were fitted. Shapes: U users, I items, F factors, B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from models.scoring import BilinearForm, Side

if TYPE_CHECKING:
    from collections.abc import Mapping

TENSORS = ("mean", "user_factors", "item_factors", "user_bias", "item_bias")
VARIANCES = ("noise_variance", "user_variance", "item_variance")


class MatrixFactorization(nn.Module):
    """Matrix factorization with biases (Koren, Bell and Volinsky 2009, eq. 4).

    Every table has one row more than there are users (items). The last row stands for a user (item) without training
    ratings, so that an unknown id is an index like any other and a batch needs no branches.

    Args:
        mean: μ, shape ().
        user_factors: P, shape (U+1, F).
        item_factors: Q, shape (I+1, F).
        user_bias: b_u, shape (U+1,).
        item_bias: b_i, shape (I+1,).
        noise_variance: of a rating around its expectation, shape (); None where the trainer knows no uncertainty.
        user_variance: what not knowing the user's row exactly adds, shape (U+1,); given with `noise_variance`.
        item_variance: likewise for the item's row, shape (I+1,).
    """

    mean: Tensor
    user_factors: Tensor
    item_factors: Tensor
    user_bias: Tensor
    item_bias: Tensor
    noise_variance: Tensor | None
    user_variance: Tensor | None
    item_variance: Tensor | None

    def __init__(
        self,
        mean: Tensor,
        user_factors: Tensor,
        item_factors: Tensor,
        user_bias: Tensor,
        item_bias: Tensor,
        noise_variance: Tensor | None = None,
        user_variance: Tensor | None = None,
        item_variance: Tensor | None = None,
    ) -> None:
        super().__init__()
        tables = (mean, user_factors, item_factors, user_bias, item_bias, noise_variance, user_variance, item_variance)
        for name, tensor in zip(TENSORS + VARIANCES, tables, strict=True):
            self.register_buffer(name, None if tensor is None else tensor.detach())

    @classmethod
    def from_rated(
        cls,
        *,
        mean: Tensor,
        user_factors: Tensor,
        item_factors: Tensor,
        user_bias: Tensor,
        item_bias: Tensor,
        user_counts: Tensor,
        item_counts: Tensor,
    ) -> Self:
        """Append the rows for unknown ids to fitted tables of U and I rows: their averages over the training ratings.

        Weighting by `user_counts` (U,) and `item_counts` (I,) makes the answer for an unknown pair come out near the
        mean training rating, whichever way a trainer spread that mean over μ, b_u and b_i.
        """
        return cls(
            mean,
            with_average_row(user_factors, user_counts),
            with_average_row(item_factors, item_counts),
            with_average_row(user_bias, user_counts),
            with_average_row(item_bias, item_counts),
        )

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

    def forward(self, users_B: Tensor, items_B: Tensor) -> Tensor:
        """Predict the rating of each pair, unclipped, shape (B,). Its bits depend on the pair alone."""
        return self.form().exact(users_B, items_B)

    def form(self) -> BilinearForm:
        """What scores a pair with its expected rating r̂."""
        return BilinearForm(Side(self.user_factors, self.user_bias), Side(self.item_factors, self.item_bias), self.mean)

    def variance(self, users_B: Tensor, items_B: Tensor) -> Tensor | None:
        """Variance of the rating of each pair around its prediction, shape (B,); None where it is not known."""
        if self.noise_variance is None or self.user_variance is None or self.item_variance is None:
            return None
        return self.noise_variance + self.user_variance[users_B] + self.item_variance[items_B]

    def tensors(self) -> Mapping[str, Tensor]:
        """The tables by name, as a checkpoint stores them: `TENSORS`, and `VARIANCES` where they are known."""
        return {name: table for name in TENSORS + VARIANCES if (table := getattr(self, name)) is not None}


def with_average_row(table: Tensor, counts: Tensor) -> Tensor:
    """Append the average row of `table` (R, …), weighted by `counts` (R,): shape (R+1, …)."""
    weights = (counts / counts.sum().clamp(min=1)).to(table.dtype)
    average = torch.tensordot(weights, table, dims=1)
    return torch.cat([table, average[None]])
