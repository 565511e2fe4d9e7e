"""Maximal marginal relevance, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from models.diversity import diversified


def by_definition(scores, factors, diversity: float, picks: int) -> list[int]:
    worth = (scores - scores.min()) / max(scores.max() - scores.min(), 1e-30)
    cosine = factors @ factors.T / np.linalg.norm(factors, axis=1) / np.linalg.norm(factors, axis=1)[:, None]
    order: list[int] = []
    while len(order) < min(picks, len(scores)):
        left = [item for item in range(len(scores)) if item not in order]
        likeness = {item: max((cosine[item, other] for other in order), default=0.0) for item in left}
        order.append(max(left, key=lambda item: ((1 - diversity) * worth[item] - diversity * likeness[item], -item)))
    return order


@pytest.mark.parametrize("diversity", [0.1, 0.5, 1.0])
def test_each_place_goes_to_the_item_of_the_largest_marginal_relevance(diversity: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.standard_normal(60))[::-1].astype(np.float32)
    factors = rng.standard_normal((60, 6)).astype(np.float32)
    assert diversified(scores, factors, diversity, 25).tolist() == by_definition(scores, factors, diversity, 25)


def test_the_beginning_of_a_longer_list_is_the_shorter_one() -> None:
    rng = np.random.default_rng(1)
    scores, factors = np.linspace(1, 0, 80, dtype=np.float32), rng.standard_normal((80, 4)).astype(np.float32)
    whole = diversified(scores, factors, 0.7, 500)
    assert sorted(whole.tolist()) == list(range(80))
    for picks in (0, 1, 10, 79):
        assert diversified(scores, factors, 0.7, picks).tolist() == whole[:picks].tolist()


def test_copies_of_the_best_item_come_after_items_that_are_unlike_it() -> None:
    factors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    scores = np.array([5, 4.9, 4.8, 4.7, 4.6], np.float32)
    assert diversified(scores, factors, 0.0, 5).tolist() == [0, 1, 2, 3, 4]
    assert diversified(scores, factors, 0.9, 5).tolist()[:3] == [0, 4, 3]


def test_equal_scores_and_empty_factors_leave_the_order() -> None:
    assert diversified(np.ones(4, np.float32), np.zeros((4, 0), np.float32), 0.5, 3).tolist() == [0, 1, 2]
    assert diversified(np.empty(0, np.float32), np.empty((0, 3), np.float32), 0.5, 3).tolist() == []
