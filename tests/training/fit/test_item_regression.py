"""Item-to-item regression: its products against the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.data import planted_set
from training.fit.item_regression import RIDGE_POWER, ItemRegression

RIDGE = 3.0


@pytest.mark.parametrize("most", [1, 15, 40, 1000])
def test_products_are_those_of_least_squares_without_the_item_itself(most: int) -> None:
    """Each column regresses an item on the covered ones but itself, an item that is not covered on all of these."""
    data = planted_set(users=60, items=40, ratings=900)
    targets_N = data.ratings_N
    regression = ItemRegression(data, targets_N, most)
    target_UI = torch.zeros(60, 40, dtype=torch.float64)
    target_UI[data.users_N.long(), data.items_N.long()] = targets_N.double()
    covered_C = regression.covered_C
    counts_I = data.item_totals()
    assert counts_I[covered_C].sum() == counts_I.sort(descending=True).values[:most].sum()
    dense_CI = torch.zeros(len(covered_C), 40, dtype=torch.float64)
    for item in range(40):
        others = covered_C != item
        x_UC = target_UI[:, covered_C[others]]
        ridge_CC = torch.diag(RIDGE * counts_I[covered_C[others]].double() ** RIDGE_POWER)
        dense_CI[others, item] = torch.linalg.solve(x_UC.T @ x_UC + ridge_CC, x_UC.T @ target_UI[:, item])
    inverse_CC, rng = regression.inverse(RIDGE), np.random.default_rng(0)
    right_IK = torch.from_numpy(rng.standard_normal((40, 3), dtype=np.float32))
    left_CK = torch.from_numpy(rng.standard_normal((len(covered_C), 3), dtype=np.float32))
    found_CK, found_IK = regression.times(inverse_CC, right_IK), regression.transposed_times(inverse_CC, left_CK)
    torch.testing.assert_close(found_CK.double(), dense_CI @ right_IK.double(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found_IK.double(), dense_CI.T @ left_CK.double(), rtol=1e-3, atol=1e-4)
