"""How much each of several models counts in their mean, found on ratings that none of them was fitted to.

Stacking (Wolpert 1992; Breiman 1996: weights that are not negative and sum to one). It knows errors, not models.
Shapes: M models.
"""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]

SPREAD = 0.25  # prior standard deviation of a weight around an equal share
NEGLIGIBLE = 0.1  # a model that counts less than this is left out


def weights(products_MM: Float64s, noise: float) -> Float64s:
    """The weights w of least wᵀ E w / noise + |w − 1/M|² / SPREAD², none negative or negligible, of sum 1, (M,).

    The fewer ratings, the nearer to equal weights.

    Args:
        products_MM: E, the sums over held-out ratings of the products of two models' errors.
        noise: the variance of a rating around its expectation, in the same units.
    """
    models = len(products_MM)
    curvature_MM = products_MM / noise + np.eye(models) / SPREAD**2
    slope_M = np.full(models, 1 / models / SPREAD**2)
    supports = chain.from_iterable(combinations(range(models), size) for size in range(1, models + 1))
    candidates = [_on(np.array(support), curvature_MM, slope_M) for support in supports]
    feasible = [weight_M for weight_M in candidates if weight_M[weight_M != 0].min() >= NEGLIGIBLE]
    return min(feasible, key=lambda weight_M: float(weight_M @ curvature_MM @ weight_M / 2 - weight_M @ slope_M))


def _on(support: npt.NDArray[np.int64], curvature_MM: Float64s, slope_M: Float64s) -> Float64s:
    """The best weights of sum 1 that are 0 outside the support, perhaps negative inside."""
    inverse_SS = np.linalg.inv(curvature_MM[np.ix_(support, support)])
    free_S, unit_S = inverse_SS @ slope_M[support], inverse_SS.sum(1)
    weight_M = np.zeros(len(slope_M))
    weight_M[support] = free_S + unit_S * (1 - free_S.sum()) / unit_S.sum()
    return weight_M
