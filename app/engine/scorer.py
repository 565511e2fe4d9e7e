"""Ratings by row numbers. It knows neither ids nor how sure the model is. Shapes: F factors, B pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.sharding import Sharded

Rows = npt.NDArray[np.int64]
Ratings = npt.NDArray[np.float32]


class Scorer:
    """Ratings by row numbers, clipped to the scale. Bits depend on the pair alone, not on what it is asked with.

    Args:
        rating: the model's order by rating, as its items lie on devices; the last rows stand for unknown ids.
        scale: the lowest and the highest rating.

    Attributes:
        predict_pair: the rating of one pair: the same bits as `predict` gives, in a quarter of its time.
    """

    def __init__(self, rating: Sharded, scale: tuple[float, float]) -> None:
        self.scale = scale
        self.on_cpu = rating.users is None and rating.only.is_on_cpu
        self._rating = rating
        self._low, self._high = (np.float32(bound) for bound in scale)
        self.predict_pair: Callable[[int, int], float] = rating.pair_within(self._low, self._high)

    def predict(self, users: int | Rows, items_B: Rows) -> Ratings:
        """Rating of each pair, of one user or as many as there are items, float32, (B,)."""
        return self._clipped(self.expected(users, items_B))

    def predict_folded(self, factors: Ratings, bias: Any, items_B: Rows) -> Ratings:
        """Rating of some items for a user whose row is given, or for as many users."""
        return self._clipped(self.expected_folded(factors, bias, items_B))

    def expected(self, users: int | Rows, items_B: Rows) -> Ratings:
        """As `predict`, before it is clipped."""
        return self._rating.scores(users, items_B)

    def expected_folded(self, factors: Ratings, bias: Any, items_B: Rows) -> Ratings:
        """As `predict_folded`, before it is clipped."""
        return self._rating.scores_of((factors, bias, None), items_B)

    def _clipped(self, ratings_B: Ratings) -> Ratings:
        np.maximum(ratings_B, self._low, out=ratings_B)
        np.minimum(ratings_B, self._high, out=ratings_B)
        return ratings_B
