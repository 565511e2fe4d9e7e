"""Item-to-item regression: the products of both forms against the dense matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.data import planted_set
from training.fit import item_regression
from training.fit.item_regression import RIDGE_POWER, Form, ItemRegression
from training.fit.trainer import TrainingSet

RIDGE = 3.0


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """No two items have the same product with a third one, so their order is clear."""
    planted = planted_set(users=60, items=40, ratings=900)
    drawn_N = np.random.default_rng(1).uniform(0.5, 1.5, len(planted)).astype(np.float32)
    return replace(planted, ratings_N=torch.from_numpy(drawn_N))


def targets(data: TrainingSet) -> Tensor:
    target_UI = torch.zeros(data.users, data.items, dtype=torch.float64)
    target_UI[data.users_N.long(), data.items_N.long()] = data.ratings_N.double()
    return target_UI


def check_products(regression: ItemRegression, form: Form, dense_CI: Tensor) -> None:
    weights, rng = regression.weights(form), np.random.default_rng(0)
    covered, items = dense_CI.shape
    right_IK = torch.from_numpy(rng.standard_normal((items, 3), dtype=np.float32))
    left_CK = torch.from_numpy(rng.standard_normal((covered, 3), dtype=np.float32))
    found_CK, found_IK = weights.times(right_IK), weights.transposed_times(left_CK)
    torch.testing.assert_close(found_CK.double(), dense_CI @ right_IK.double(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found_IK.double(), dense_CI.T @ left_CK.double(), rtol=1e-3, atol=1e-4)
    targets_BC, dense_CC = left_CK.T.contiguous(), dense_CI[:, regression.covered_C]
    torch.testing.assert_close(
        weights.scores(targets_BC).double(), targets_BC.double() @ dense_CC, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("most", [1, 15, 40, 1000])
def test_products_are_those_of_least_squares_without_the_item_itself(data: TrainingSet, most: int) -> None:
    """Each column regresses an item on the covered ones but itself, an item that is not covered on all of these."""
    regression, target_UI = ItemRegression(data, data.ratings_N, most), targets(data)
    covered_C, counts_I = regression.covered_C, data.item_totals()
    assert counts_I[covered_C].sum() == counts_I.sort(descending=True).values[:most].sum()
    dense_CI = torch.zeros(len(covered_C), data.items, dtype=torch.float64)
    for item in range(data.items):
        others = covered_C != item
        x_UC = target_UI[:, covered_C[others]]
        ridge_CC = torch.diag(RIDGE * counts_I[covered_C[others]].double() ** RIDGE_POWER)
        dense_CI[others, item] = torch.linalg.solve(x_UC.T @ x_UC + ridge_CC, x_UC.T @ target_UI[:, item])
    check_products(regression, Form(RIDGE), dense_CI)


@pytest.mark.parametrize(("most", "largest_ratio"), [(1, 1e6), (2, 1e6), (15, 1e6), (15, 0.0), (40, 1e6)])
def test_neighbours_alone_are_the_covered_items_with_the_largest_products(
    data: TrainingSet, most: int, largest_ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each column has entries at an item's 6 neighbours, or at 4 if the item is not covered. Blocks are of 7 items.

    Beyond the largest ratio float64 is used.
    """
    constants = {"NEIGHBOURS": 6, "FEW_NEIGHBOURS": 4, "ITEMS_AT_ONCE": 7, "LARGEST_RATIO": largest_ratio}
    for name, value in constants.items():
        monkeypatch.setattr(item_regression, name, value)
    regression, target_UI = ItemRegression(data, data.ratings_N, most), targets(data)
    covered_C = regression.covered_C
    gram_II = target_UI.T @ target_UI
    dense_CI = torch.zeros(len(covered_C), data.items, dtype=torch.float64)
    for item in range(data.items):
        others = (covered_C != item).nonzero()[:, 0]
        count = 6 if item in covered_C else 4
        near = others[gram_II[item, covered_C[others]].argsort(descending=True)[:count]]
        rows = covered_C[near]
        ridge_SS = RIDGE * torch.eye(len(near), dtype=torch.float64)
        dense_CI[near, item] = torch.linalg.solve(gram_II[rows][:, rows] + ridge_SS, gram_II[rows, item])
    check_products(regression, Form(RIDGE, neighbours_alone=True), dense_CI)


def test_a_form_is_solved_once(data: TrainingSet) -> None:
    regression = ItemRegression(data, data.ratings_N, 20)
    assert regression.weights(Form(RIDGE)) is regression.weights(Form(RIDGE))
    assert regression.weights(Form(RIDGE)) is not regression.weights(Form(RIDGE, neighbours_alone=True))
