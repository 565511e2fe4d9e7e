"""The arithmetic of an answer: clipped predictions and exact top-N. It knows row numbers, not ids.

Shapes: B pairs, I items, C candidates, M excluded items, N list length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.ranking import top_n

# The matrix product and the gather-dot round differently, by a few units in the last place. This many candidates beyond
# the N-th are scored again by gather-dot, so that near-ties at the end of a list fall as the shown ratings say.
NEAR_TIES = 64


class Scorer:
    """Scores with one model on the model's device.

    Args:
        model: the tables; their last rows stand for unknown ids.
        scale: the lowest and the highest rating.
    """

    def __init__(self, model: MatrixFactorization, scale: tuple[float, float]) -> None:
        self.model = model
        self.scale = scale

    @torch.inference_mode()
    def predict(self, users_B: Tensor, items_B: Tensor) -> Tensor:
        """Rating of each pair, clipped to the scale, shape (B,), in one gather-dot."""
        return self._clip(self.model(self._place(users_B), self._place(items_B)))

    @torch.inference_mode()
    def top(self, user: int, excluded_M: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The n items of highest r̂ for one user, and their ratings as `predict` gives them, both (min(n, I−M),).

        Ordered by the unclipped r̂, equal ones by row. The excluded rows are distinct.
        """
        candidates_C = self._candidates(user, self._place(excluded_M), n + NEAR_TIES)
        exact_C = self.model(torch.full_like(candidates_C, user), candidates_C)
        exact_N, order_N = (part[:n] for part in exact_C.sort(descending=True, stable=True))
        return candidates_C[order_N], self._clip(exact_N)

    def _candidates(self, user: int, excluded_M: Tensor, count: int) -> Tensor:
        """The rows of highest r̂ by one matrix product, ascending by row."""
        scores_1I = self.model.score_items(torch.tensor([user], device=self.model.device))
        scores_1I[0, excluded_M] = -torch.inf
        available = scores_1I.shape[1] - len(excluded_M)
        return top_n(scores_1I, min(count, available))[0].sort().values

    def _place(self, rows: Tensor) -> Tensor:
        return rows.to(self.model.device, torch.int64)

    def _clip(self, ratings_B: Tensor) -> Tensor:
        return ratings_B.clamp(*self.scale)
