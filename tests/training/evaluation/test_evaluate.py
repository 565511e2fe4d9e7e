"""The evaluator against brute force, against a figure that is known, and against data it must refuse."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from tests.support.checkpoints import RULE
from tests.support.data import Rating, interactions
from tests.support.orderings import all_scores
from training.data.dataset import load
from training.data.split import parse_split, split
from training.errors import OverlapError
from training.evaluation import (
    evaluate as evaluation,  # TestSet is not a class of tests, as pytest would take it in this module
)
from training.evaluation.evaluate import evaluate, held_out_rmse, make_test_set

CPU = torch.device("cpu")
USERS, ITEMS = 4, 14
SCALE = (1.0, 5.0)


def item_scores(scores_I: torch.Tensor, users: int) -> MatrixFactorization:
    """A model that scores items alike for everyone."""
    items = len(scores_I)
    return MatrixFactorization(
        mean=torch.zeros(()),
        user_factors=torch.zeros(users + 1, 0),
        item_factors=torch.zeros(items + 1, 0),
        user_bias=torch.zeros(users + 1),
        item_bias=torch.cat([scores_I, torch.zeros(1)]),
    )


def test_popularity_has_its_known_figure_on_movielens(cache: Path) -> None:
    """NDCG@10 0.126: the result is deterministic, so a metric that is off shows here."""
    ratings = load(["ml-100k"], rng=np.random.default_rng(0), cache=cache).ratings
    train_rows, test_rows = split(ratings, parse_split("random:0.1"), np.random.default_rng(0))
    train = ratings.take(train_rows).compacted()
    held_out = ratings.take(test_rows).aligned(train.user_ids, train.item_ids)
    test = make_test_set(train, held_out, ratings.scale, None, CPU)
    seen = TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, train.users)
    popularity = item_scores(torch.from_numpy(seen.counts(train.items)).float(), train.users)
    assert test is not None
    assert test.relevant == 4.0
    assert round(evaluate(popularity, test, seen)["ndcg10"] or 0, 3) == 0.126


def test_a_pair_in_both_parts_is_refused() -> None:
    train, test = (interactions([(0, 0, 3.0), (1, item, 4.0)], 2, 3) for item in (1, 2))
    with pytest.raises(OverlapError, match="1 of 2 test pairs are also in the training part"):
        make_test_set(train, test, SCALE, None, CPU)


def test_an_empty_test_part_is_none() -> None:
    train = interactions([(0, 0, 3.0)], 1, 1)
    assert make_test_set(train, train.take(np.empty(0, np.int64)), SCALE, None, CPU) is None


def test_unknown_ids_of_the_test_part_are_not_an_overlap() -> None:
    train = interactions([(0, 0, 1.0), (1, 1, 5.0)], 2, 2)
    test = make_test_set(train, interactions([(2, 2, 4.0), (0, 2, 4.0), (2, 1, 4.0)], 3, 3), SCALE, None, CPU)
    unaligned = interactions([(2, 2, 4.0), (0, 2, 4.0)], 3, 3).aligned(train.user_ids, train.item_ids)
    assert test is not None
    assert make_test_set(train, unaligned, SCALE, None, CPU) is not None


@pytest.mark.parametrize(("wish", "relevant"), [(None, 4.0), (2.5, 2.5)])
def test_what_is_relevant_is_three_quarters_up_the_scale_unless_said(wish: float | None, relevant: float) -> None:
    train = interactions([(0, 0, 1.0), (1, 1, 5.0)], 2, 2)
    test = make_test_set(train, interactions([(0, 1, 4.0)], 2, 2), SCALE, wish, CPU)
    assert test is not None
    assert (test.relevant, test.scale) == (relevant, (1.0, 5.0))


def test_without_anything_relevant_the_ranking_figures_are_none() -> None:
    test = evaluation.TestSet(torch.tensor([0]), torch.tensor([0]), torch.tensor([3.0]), (1.0, 5.0), relevant=4.0)
    figures = evaluate(
        item_scores(torch.zeros(2), 1),
        test,
        TrainingRatings.from_ratings(*np.zeros((2, 0), np.int32), np.zeros(0, np.float32), 1),
    )
    assert [figures[name] for name in ("ndcg10", "recall10", "ndcg10_rating", "coverage90", "nll")] == [None] * 5


def test_only_the_service_clips() -> None:
    test = evaluation.TestSet(
        torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([5.0, 1.0]), (1.0, 5.0), relevant=4.0
    )
    model = item_scores(torch.tensor([6.0, -2.0]), 1)
    figures = evaluate(
        model, test, TrainingRatings.from_ratings(*np.zeros((2, 0), np.int32), np.zeros(0, np.float32), 1)
    )
    assert figures["rmse"] == pytest.approx(math.sqrt((1 + 9) / 2))
    assert figures["rmse_clipped"] == held_out_rmse(model, test, clipped=True) == 0


def test_a_head_orders_the_lists_and_the_rating_keeps_a_figure_of_its_own() -> None:
    """The model puts the relevant item last of twelve, the head first."""
    test = evaluation.TestSet(torch.tensor([0]), torch.tensor([11]), torch.tensor([5.0]), (1.0, 5.0), relevant=4.0)
    model = item_scores(-torch.arange(12.0), 1)
    head = RelevanceHead(torch.ones(2, 1), torch.arange(13.0)[:, None], torch.zeros(13, 1), RULE)
    seen = TrainingRatings.from_ratings(*np.zeros((2, 0), np.int32), np.zeros(0, np.float32), 1)
    figures = evaluate(model, test, seen, head)
    assert (figures["ndcg10"], figures["recall10"], figures["ndcg10_rating"]) == (1.0, 1.0, 0.0)
    assert evaluate(model, test, seen)["ndcg10"] == 0.0


PAIRS = st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)))
TEST_PAIRS = st.sets(st.tuples(st.integers(0, USERS), st.integers(0, ITEMS)), min_size=1)  # the last are unknown


def by_brute_force(
    scores_UI: np.ndarray, train: set[tuple[int, int]], relevant: set[tuple[int, int]]
) -> tuple[float, float] | tuple[None, None]:
    """NDCG@10 and recall@10 by sorting every list."""
    ndcg, recall = [], []
    for user in range(USERS):
        wanted = {item for row, item in relevant if row == user}
        candidates = [item for item in range(ITEMS) if (user, item) not in train]
        listed = sorted(candidates, key=lambda item: (-scores_UI[user, item], item))[:10]
        if wanted:
            gain = sum(1 / np.log2(rank + 2) for rank, item in enumerate(listed) if item in wanted)
            ndcg.append(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(wanted)))))
            recall.append(len(wanted.intersection(listed)) / len(wanted))
    return (float(np.mean(ndcg)), float(np.mean(recall))) if ndcg else (None, None)


@given(PAIRS, TEST_PAIRS, st.integers(0, 9))
def test_ranking_figures_equal_brute_force(train: set[tuple[int, int]], test: set[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = item_scores(torch.tensor(rng.integers(0, 4, ITEMS), dtype=torch.float32), USERS)
    held_out: list[Rating] = [(*pair, float(rng.integers(1, 6))) for pair in sorted(test - train)]
    assume(held_out)
    users_N, items_N, ratings_N = torch.tensor(held_out).reshape(-1, 3).T
    test_set = evaluation.TestSet(users_N.long(), items_N.long(), ratings_N, (1.0, 5.0), relevant=4.0)
    columns = np.array(sorted(train), np.int32).reshape(-1, 2)
    seen = TrainingRatings.from_ratings(columns[:, 0], columns[:, 1], np.ones(len(columns), np.float32), USERS)
    figures = evaluate(model, test_set, seen)
    scores_UI = all_scores(by_rating(model), range(USERS)).numpy()
    expected = by_brute_force(scores_UI, train, {(user, item) for user, item, rating in held_out if rating >= 4})
    assert (figures["ndcg10"], figures["recall10"]) == pytest.approx(expected)
