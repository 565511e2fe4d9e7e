"""The relevance head, against scores computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.mf import with_average_row
from models.orderings import by_relevance
from models.relevance import HeadSolver, RelevanceHead
from tests.support.checkpoints import RELEVANCE_FACTORS, RULE, USERS, small_head
from tests.support.orderings import all_scores

BY_HAND = RelevanceHead(
    with_average_row(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([3, 1])),
    with_average_row(torch.tensor([[0.5, 0.5], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([2, 1, 1])),
    torch.zeros(4, 2),
    RULE,
)


def test_a_score_is_the_dot_product_of_both_rows() -> None:
    assert all_scores(by_relevance(BY_HAND), [1, 0]).tolist() == [[-0.5, 0.0, -1.0], [1.5, 2.0, 2.0]]


def test_the_row_of_an_unknown_id_is_the_average_weighted_by_ratings() -> None:
    assert BY_HAND.user_factors[-1].tolist() == [0.75, 1.25]
    assert BY_HAND.item_factors[-1].tolist() == [0.75, 0.5]


def test_an_unknown_user_gets_the_scores_of_the_average_one() -> None:
    assert all_scores(by_relevance(BY_HAND), [2]).tolist() == [[1.0, 1.5, 1.25]]


@pytest.mark.parametrize("solved", [0, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_what_each_rating_adds_to_a_score_adds_up_to_it(count: int, solved: int) -> None:
    """With fewer ratings than factors and with more; with solved rows, summed ones, and both."""
    rng = np.random.default_rng(count)
    tables = (torch.from_numpy(rng.standard_normal((40, 5), dtype=np.float32)) for _ in range(3))
    rule = RULE.model_copy(update={"solved_factors": solved})
    solver, items_N = HeadSolver(RelevanceHead(*tables, rule)), rng.choice(39, count, replace=False)
    ratings_N = rng.uniform(1, 5, count)
    for target in (0, 17):
        parts_N = solver.contributions(items_N, ratings_N, target)
        score = solver.solve(items_N, ratings_N) @ solver._factors_IG[target].numpy()
        assert parts_N.sum() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_shapes_on_the_meta_device(batch: int) -> None:
    head = small_head().to("meta")
    rows = torch.zeros(batch, dtype=torch.int64, device="meta")
    assert by_relevance(head).exact(rows, rows).shape == (batch,)
    assert head.factors == RELEVANCE_FACTORS
    assert {table.device.type for table in head.tensors().values()} == {"meta"}
    assert len(head.user_factors) == USERS + 1
