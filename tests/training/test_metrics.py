"""Every metric against a case computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training import metrics

PREDICTED = torch.tensor([3.0, 4.5, 2.0, 5.0])
ACTUAL = torch.tensor([4.0, 4.0, 2.0, 3.0])  # errors −1, 0.5, 0, 2


def test_rmse_is_the_root_of_the_mean_squared_error() -> None:
    assert metrics.rmse(PREDICTED, ACTUAL) == pytest.approx(math.sqrt((1 + 0.25 + 0 + 4) / 4))


def test_mae_is_the_mean_absolute_error() -> None:
    assert metrics.mae(PREDICTED, ACTUAL) == pytest.approx((1 + 0.5 + 0 + 2) / 4)


def test_user_rmse_counts_each_user_once() -> None:
    users = torch.tensor([7, 0, 7, 7])
    assert metrics.user_rmse(PREDICTED, ACTUAL, users) == pytest.approx((math.sqrt((1 + 0 + 4) / 3) + 0.5) / 2)


def test_figures_of_many_ratings_do_not_lose_precision() -> None:
    errors = torch.full((3_000_000,), 0.1)
    assert metrics.rmse(errors, torch.zeros_like(errors)) == pytest.approx(0.1, rel=1e-6)


def test_coverage_is_the_share_within_the_interval() -> None:
    low, high = torch.tensor([0.0, 3.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 2.9, 6.0])
    assert metrics.coverage(low, high, torch.tensor([0.0, 3.5, 3.0, 6.0])) == 0.75


def test_nll_of_a_normal_distribution() -> None:
    found = metrics.nll(torch.tensor([1.0]), torch.tensor([4.0]), torch.tensor([3.0]))
    assert found == pytest.approx(0.5 * math.log(2 * math.pi * 4) + 2**2 / (2 * 4))


DISCOUNTS = [1 / math.log2(position + 1) for position in (1, 2, 3)]  # 1, 0.631, 0.5


@pytest.mark.parametrize(
    ("hits", "relevant", "ndcg", "recall"),
    [
        ([1, 1, 0], 2, 1.0, 1.0),  # ideal
        ([0, 0, 0], 2, 0.0, 0.0),  # nothing found
        ([0, 1, 1], 2, (DISCOUNTS[1] + DISCOUNTS[2]) / (DISCOUNTS[0] + DISCOUNTS[1]), 1.0),  # found, but late
        ([1, 0, 1], 4, (DISCOUNTS[0] + DISCOUNTS[2]) / sum(DISCOUNTS), 0.5),  # more relevant than the list holds
        ([0, 0, 1], 1, DISCOUNTS[2], 1.0),
        ([1, 1, 1], 9, 1.0, 1 / 3),
    ],
)
def test_ndcg_and_recall_of_a_list_are_those_of_their_formulas(
    hits: list[int], relevant: int, ndcg: float, recall: float
) -> None:
    hits_BK, relevant_B = torch.tensor([hits], dtype=torch.bool), torch.tensor([relevant])
    assert float(metrics.ndcg(hits_BK, relevant_B)) == pytest.approx(ndcg)
    assert float(metrics.recall(hits_BK, relevant_B)) == pytest.approx(recall)


def test_lists_of_a_batch_do_not_mix() -> None:
    hits_BK, relevant_B = torch.tensor([[1, 0], [0, 1]], dtype=torch.bool), torch.tensor([1, 1])
    assert metrics.ndcg(hits_BK, relevant_B).tolist() == pytest.approx([1.0, DISCOUNTS[1]])
    assert metrics.recall(hits_BK, relevant_B).tolist() == [1.0, 1.0]
