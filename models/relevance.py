"""The relevance head: the tables that order lists, s_ui = x_u · y_i. A score is no rating and has no scale.

This module does not know how the tables were fitted. Shapes: U users, I items, G factors, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.checkpoint.manifest import RelevanceRule
from models.mf import with_average_row


@dataclass(frozen=True, slots=True)
class RelevanceHead:
    """A second pair of factor tables. As in `models.mf`, the last rows stand for unknown ids.

    Attributes:
        user_factors: X, float32, (U+1, G).
        item_factors: Y, float32, (I+1, G).
        rule: how a user's row follows from their ratings and Y.
    """

    user_factors: Tensor
    item_factors: Tensor
    rule: RelevanceRule

    @classmethod
    def from_rated(
        cls,
        *,
        user_factors: Tensor,
        item_factors: Tensor,
        user_counts: Tensor,
        item_counts: Tensor,
        rule: RelevanceRule,
    ) -> Self:
        """Append the rows for unknown ids to tables of U and I rows: their averages over the training ratings.

        `user_counts` (U,) and `item_counts` (I,) are the numbers of ratings.
        """
        return cls(with_average_row(user_factors, user_counts), with_average_row(item_factors, item_counts), rule)

    @property
    def factors(self) -> int:
        """G, the rank of X·Yᵀ."""
        return self.user_factors.shape[1]

    def score_items(self, users_B: Tensor) -> Tensor:
        """The score of every known item for each user, shape (B, I)."""
        return self.user_factors[users_B] @ self.item_factors[:-1].T

    def tensors(self) -> Mapping[str, Tensor]:
        """The tables by name, as a checkpoint stores them."""
        return {"user_factors": self.user_factors, "item_factors": self.item_factors}

    def to(self, device: torch.device | str) -> RelevanceHead:
        return RelevanceHead(self.user_factors.to(device), self.item_factors.to(device), self.rule)
