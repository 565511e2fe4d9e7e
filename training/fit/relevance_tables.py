"""Solved factors and an item-to-item regression as one bilinear form of small rank, in which users can be folded in.

Scores are x_u·Y + t_u·B·D: solved rows on the items' factors, and a user's targets on the regression, weighted by item.
The form keeps the columns of Y, so that a user's solved row is found as before. K columns Q, orthogonal to them, are
those along which the rest of the regression is largest: leading eigenvectors of AᵀXᵀWXA, W being count^-0.5 for each
user, by subspace iteration (Halko, Martinsson and Tropp 2011, section 4.5). A = (B + 0.4·J)·D: J adds the targets
themselves, which B leaves out, so that items that are rated together stay together. With S = [Y, Q] a user's row is
[x_u, 0] + t_u·N, and N = BD·S(SᵀS)⁻¹ is the nearest such form.
Shapes: U users, I items, C covered by the regression, H solved factors, K columns, G = H + K.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.fit.item_regression import ItemRegression
from training.fit.relevance_choice import Choice

USER_POWER = 0.5  # 0: those who rate most decide; on anime's training part NDCG@10 0.277, 0.281 with 0.5, 0.282 with 1
# Of J. NDCG@10 on training parts with 0 and with 0.4: 0.2896 and 0.2956 (anime), 0.2139 and 0.2158 (ml-latest-small).
OWN_SHARE = 0.4
ITERATIONS = 5
SPARE = 16  # columns that the iteration carries beyond those that are kept


class Reduction:
    """Reduces a regression beside factors of items."""

    def __init__(self, regression: ItemRegression, choice: Choice, items_IH: Tensor) -> None:
        self._regression, self._weights, self._items_IH = regression, regression.weights(choice.form), items_IH
        self._item_weights_I1 = choice.item_weights(regression.counts_I)[:, None]
        self._user_weights_U1 = (regression.user_counts_U.clamp(min=1) ** -USER_POWER)[:, None]
        gram_HH = items_IH.double().T @ items_IH.double()
        self._pseudo_inverse_IH = (items_IH.double() @ torch.linalg.pinv(gram_HH, rtol=1e-9, hermitian=True)).float()

    def columns(self, count: int, rng: np.random.Generator) -> Tensor:
        """Q, (I, K): at most `count` columns; the same on all ranks."""
        items, factors = self._items_IH.shape
        kept = max(0, min(count, items - factors))
        if kept == 0:
            return self._items_IH[:, :0]
        drawn = rng.standard_normal((items, min(kept + SPARE, items)), dtype=np.float32)
        basis_IK = self._orthonormal(torch.from_numpy(drawn).to(self._items_IH.device))
        for _ in range(ITERATIONS):
            basis_IK = self._orthonormal(self._spread(basis_IK))
        _, axes_KK = torch.linalg.eigh(basis_IK.T @ self._spread(basis_IK))
        return self._regression.communicator.from_first(basis_IK @ axes_KK[:, -kept:])

    def summed(self, columns_IK: Tensor) -> Tensor:
        """N, (C, G): what the targets of covered items add to a user's row."""
        right_IG = torch.cat([self._pseudo_inverse_IH, columns_IK], dim=1)
        return self._weights.times(self._item_weights_I1 * right_IG)

    def _spread(self, basis_IK: Tensor) -> Tensor:
        """AᵀXᵀWXA · basis."""
        regression, covered_C = self._regression, self._regression.covered_C
        weighted_IK = self._item_weights_I1 * basis_IK
        spread_CK = self._weights.times(weighted_IK) + OWN_SHARE * weighted_IK[covered_C]
        sums_CK = regression.summed_over_users(self._user_weights_U1 * (regression.targets_UC @ spread_CK))
        result_IK = self._weights.transposed_times(sums_CK)
        result_IK[covered_C] += OWN_SHARE * sums_CK
        return self._item_weights_I1 * result_IK

    def _orthonormal(self, basis_IK: Tensor) -> Tensor:
        """An orthonormal basis of what is left of the columns without their part along the items' factors."""
        rest_IK = basis_IK - self._pseudo_inverse_IH @ (self._items_IH.T @ basis_IK)
        orthonormal_IK: Tensor = torch.linalg.qr(rest_IK).Q
        return orthonormal_IK
