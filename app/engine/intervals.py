"""The central 90 % interval of a rating: the one that `coverage90` measures, wherever a rating is shown.

It is around the expected rating, with what a rating scatters (noise) and what is not known of the user and the item;
its ends lie on the scale. Shapes: B pairs, F factors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from app.engine.scorer import Ratings, Rows, Scorer
from models.mf import MatrixFactorization, around

Variances = npt.NDArray[np.float32] | np.float32 | None


class Intervals:
    """The intervals of a model, float32 (2, B): the lower and the upper ends. NaN where it has no variances."""

    def __init__(self, scorer: Scorer, model: MatrixFactorization) -> None:
        self._scorer = scorer
        tables = (model.noise_variance, model.user_variance, model.item_variance)
        noise, self._user_U, self._item_I = [None if table is None else table.cpu().numpy() for table in tables]
        self._noise = None if noise is None else np.float32(noise)
        self._deviations = None if model.interval_deviations is None else model.interval_deviations.cpu().numpy()

    def of_users(self, users: int | Rows, items_B: Rows) -> Ratings:
        """Of pairs of rows: of one user or as many as there are items."""
        variance_B = None if self._user_U is None else self._user_U[users]
        return self._around(self._scorer.expected(users, items_B), variance_B, items_B)

    def of_folded(self, factors: Ratings, bias: Any, variance: Variances, items_B: Rows) -> Ratings:
        """Of some items for a user whose row is given, with what not knowing it exactly adds to the variance.

        Or for as many users as there are items.
        """
        return self._around(self._scorer.expected_folded(factors, bias, items_B), variance, items_B)

    def _around(self, expected_B: Ratings, user_variance: Variances, items_B: Rows) -> Ratings:
        if self._noise is None or self._item_I is None or self._deviations is None or user_variance is None:
            return np.full((2, len(items_B)), np.nan, np.float32)
        ends = around(expected_B, self._noise + user_variance + self._item_I[items_B], self._deviations)
        return np.stack(ends).astype(np.float32).clip(*self._scorer.scale)
