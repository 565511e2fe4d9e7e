"""A prediction by biases alone: r̂ = μ + b_i + b_u, from sums that a checkpoint has. It is what live errors are held to.

Koren, "Factor in the neighbors" (2010), section 2.1, one after the other: b_i is a mean over the item's training
ratings, b_u one over all ratings that the user has by now. Shapes: I items, M ratings of one user, N items asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.scoring import Rows

Float64s = npt.NDArray[np.float64]
ITEM_REGULARISATION, USER_REGULARISATION = 10.0, 15.0  # as the preset `bias` has them


class Biases:
    """Of a model's training ratings: their mean μ, and the number and the mean of each item's."""

    def __init__(self, mean: float, counts_I: npt.NDArray[np.int32], means_I: npt.NDArray[np.floating]) -> None:
        self._mean = mean
        away_I = np.nan_to_num(means_I.astype(np.float64) - mean)
        self._items_I = np.append(counts_I * away_I / (ITEM_REGULARISATION + counts_I), 0.0)  # and of unknown ones

    def predict(self, rows_M: Rows, ratings_M: Float64s, items_N: Rows) -> Float64s:
        """What the user who rated some items would give others, unclipped, (N,); I stands for an unknown item."""
        residuals_M = ratings_M - self._mean - self._items_I[rows_M]
        user = residuals_M.sum() / (USER_REGULARISATION + len(rows_M))
        found_N: Float64s = self._mean + self._items_I[items_N] + user
        return found_N
