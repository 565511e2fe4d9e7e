"""The arithmetic of an answer: clipped predictions and exact top-N. It knows row numbers, not ids.

Shapes: B pairs, I items, M excluded items, N list length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.ranking import by_rating, top_items


class Scorer:
    """Scores with one model on the model's device.

    Args:
        model: the tables; their last rows stand for unknown ids.
        scale: the lowest and the highest rating.
    """

    def __init__(self, model: MatrixFactorization, scale: tuple[float, float]) -> None:
        self.model = model
        self.scale = scale
        self._by_rating = by_rating(model)

    @torch.inference_mode()
    def predict(self, users_B: Tensor, items_B: Tensor) -> Tensor:
        """Rating of each pair, clipped to the scale, shape (B,), in one gather-dot."""
        return self._clip(self.model(self._place(users_B), self._place(items_B)))

    @torch.inference_mode()
    def top(self, user: int, excluded_M: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The n items of highest r̂ for one user, and their ratings as `predict` gives them, both (min(n, I−M),).

        Ordered by the unclipped r̂, equal ones by row. The excluded rows are distinct.
        """
        length = min(n, self.model.items - len(excluded_M))
        users_1, offsets = self._place(torch.tensor([user])), torch.tensor([0, len(excluded_M)])
        items_N = top_items(self._by_rating, users_1, max(1, n), excluded=(offsets, excluded_M))[0, :length]
        return items_N, self.predict(users_1.expand(length), items_N)

    def _place(self, rows: Tensor) -> Tensor:
        return rows.to(self.model.device, torch.int64)

    def _clip(self, ratings_B: Tensor) -> Tensor:
        return ratings_B.clamp(*self.scale)
