"""How varied lists are, against a count by hand and the cosines of all pairs."""

from __future__ import annotations

from itertools import combinations
from math import log2

import numpy as np
import pytest
import torch

from models.training_ratings import TrainingRatings
from training.evaluation.lists import LENGTH, variety

USERS, ITEMS = 2_000, 30


def seen_of(rated_UI: np.ndarray) -> TrainingRatings:
    users_N, items_N = (rows.astype(np.int32) for rows in np.nonzero(rated_UI))
    return TrainingRatings.from_ratings(users_N, items_N, np.ones(len(users_N), np.float32), len(rated_UI))


def lists(*rows: list[int]) -> torch.Tensor:
    return torch.tensor([row + [-1] * (LENGTH - len(row)) for row in rows])


def test_coverage_and_novelty_are_counts() -> None:
    rated_UI = np.zeros((4, 5), bool)
    rated_UI[:, 0], rated_UI[:2, 1], rated_UI[0, 2] = True, True, True
    found = variety(lists([0, 1], [0], [3]), seen_of(rated_UI), 5)
    assert found["catalogue10"] == 3 / 5
    assert found["novelty10"] == pytest.approx((0 + log2(2) + 0 + log2(4)) / 4)  # an item without ratings has one


def test_diversity_is_the_mean_distance_of_pairs_by_who_rated_them() -> None:
    rng = np.random.default_rng(0)
    rated_UI = rng.random((USERS, ITEMS)) < rng.random(ITEMS) * rng.random(USERS)[:, None]
    rows = [rng.permutation(ITEMS)[: rng.integers(1, LENGTH + 1)].tolist() for _ in range(200)]
    cosine_II = rated_UI.T.astype(float) @ rated_UI / np.sqrt(np.outer(rated_UI.sum(0), rated_UI.sum(0)))
    expected = [np.mean([1 - cosine_II[pair] for pair in combinations(row, 2)]) for row in rows if len(row) > 1]
    found = variety(lists(*rows), seen_of(rated_UI), ITEMS)["diversity10"]
    assert found == pytest.approx(np.mean(expected), rel=0.09)


def test_items_that_the_same_users_rated_are_no_diversity() -> None:
    rated_UI = np.zeros((USERS, 4), bool)
    rated_UI[:700, :2] = True
    assert variety(lists([0, 1]), seen_of(rated_UI), 4)["diversity10"] == pytest.approx(0, abs=1e-5)


def test_without_lists_nothing_is_measured() -> None:
    assert set(variety(lists(), seen_of(np.ones((2, 3), bool)), 3).values()) == {None}
    assert variety(lists([1]), seen_of(np.ones((2, 3), bool)), 3)["diversity10"] is None
