"""The fit of the relevance head: on data whose order is known, and against folding its own users in."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from models.orderings import by_relevance
from models.relevance import HeadSolver, RelevanceHead
from models.search import top_items
from models.training_ratings import TrainingRatings
from tests.support.data import planted_set, training_set
from tests.support.orderings import all_scores
from training.fit.loop import fit
from training.fit.relevance import FINAL_SWEEPS, MILDER, NO_REGRESSION, TRIAL_SWEEPS, RelevanceFit
from training.fit.relevance_choice import Choice
from training.fit.relevance_settings import RelevanceSettings
from training.fit.trainer import TrainingSet

SETTINGS = RelevanceSettings(factors=6, sweeps=4, rank=16)


@pytest.fixture(scope="module")
def planted() -> TrainingSet:
    return planted_set(users=60, items=40, ratings=900)


def fitted(
    data: TrainingSet, settings: RelevanceSettings = SETTINGS, seed: int = 0
) -> tuple[RelevanceHead, list[float]]:
    """The head and the losses of a whole fit."""
    fit_ = RelevanceFit(data, settings, np.random.default_rng(seed))
    history = fit(fit_, None, lambda _: None)
    return fit_.model(), [epoch.figures["loss"] for epoch in history]


def test_a_checkerboard_is_continued() -> None:
    """Users like the items of their own parity; each has rated all of these but one. That one is listed first."""
    size = 20
    ratings = [(u, i, 5.0) for u in range(size) for i in range(size) if (u + i) % 2 == 0 and i != u]
    data = training_set(ratings, size, size)
    head, _ = fitted(data)
    seen = TrainingRatings.from_ratings(data.users_N.numpy(), data.items_N.numpy(), data.ratings_N.numpy(), size)
    users = torch.arange(size)
    lists = top_items(by_relevance(head), users, 1, excluded=seen.rows(users))
    assert lists[:, 0].tolist() == list(range(size))


def test_of_items_rated_by_the_same_users_the_better_rated_scores_higher() -> None:
    ratings = [(user, item, 5.0 if item % 2 else 2.0) for user in range(30) for item in range(6)]
    head, _ = fitted(training_set([*ratings, *((30, item, 3.0) for item in range(6, 12))], 31, 12))
    scores_I = all_scores(by_relevance(head), [0])[0]
    assert scores_I[1:6:2].min() > scores_I[0:6:2].max() > scores_I[6:].max()


@pytest.mark.parametrize(("scale", "shift"), [(20, 0), (1e-6, 0), (1, -3)])
def test_another_scale_of_ratings_gives_the_same_head(planted: TrainingSet, scale: float, shift: float) -> None:
    scaled = dataclasses.replace(planted, ratings_N=(planted.ratings_N.double() * scale + shift).float())
    expected_UI, found_UI = (
        all_scores(by_relevance(fitted(data)[0]), range(planted.users)) for data in (planted, scaled)
    )
    assert (found_UI - expected_UI).abs().max() < 1e-3


def test_the_loop_drives_it_and_its_loss_falls(planted: TrainingSet) -> None:
    history = fit(RelevanceFit(planted, SETTINGS, np.random.default_rng(0)), None, lambda _: None, name="relevance")
    assert len(history) == SETTINGS.sweeps + TRIAL_SWEEPS * len(MILDER) + FINAL_SWEEPS
    assert history[-1].figures["loss"] < history[0].figures["loss"]


def test_a_seed_repeats_bit_for_bit_and_another_does_not(planted: TrainingSet) -> None:
    first, same, other = (fitted(planted, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first.user_factors, same.user_factors)
    assert torch.equal(first.item_factors, same.item_factors)
    assert not torch.equal(first.item_factors, other.item_factors)


def test_any_number_of_threads_fits_the_same_targets(planted: TrainingSet) -> None:
    before, heads = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            heads.append(all_scores(by_relevance(fitted(planted)[0]), range(planted.users)))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-2, atol=1e-3)


def test_the_last_rows_are_averages_weighted_by_ratings(planted: TrainingSet) -> None:
    head, _ = fitted(planted)
    shares_U = planted.user_counts() / len(planted)
    torch.testing.assert_close(head.user_factors[-1], shares_U @ head.user_factors[:-1])


def test_a_user_without_ratings_is_listed_what_an_unknown_one_is() -> None:
    head, _ = fitted(training_set([(0, 0, 4.0), (0, 1, 2.0), (1, 1, 5.0)], users=3, items=4))
    assert torch.equal(head.user_factors[2], head.user_factors[3])
    assert (head.item_factors[2:4] == 0).all()


HARD_SETS = {
    "everyone rated once": [(0, 0, 1.0), (1, 1, 5.0), (2, 2, 3.0)],
    "all ratings equal": [(user, item, 3.0) for user in range(3) for item in range(3)],
    "all ratings zero": [(user, item, 0.0) for user in range(3) for item in range(3)],
    "far below the mean": [(0, 0, -1e6), *((user, item, 5.0) for user in (1, 2) for item in range(3))],
}


@pytest.mark.parametrize("ratings", HARD_SETS.values(), ids=HARD_SETS)
def test_it_survives_hard_data(ratings: list[tuple[int, int, float]]) -> None:
    head, losses = fitted(training_set(ratings, 3, 3))
    assert all(map(math.isfinite, losses))
    assert all(table.isfinite().all() and table.dtype == torch.float32 for table in head.tensors().values())


def test_the_memory_estimate_counts_ratings_and_tables() -> None:
    small = RelevanceFit.memory_bytes(1_000, 500, 10_000, SETTINGS)
    assert RelevanceFit.memory_bytes(1_000, 500, 20_000, SETTINGS) - small == 10_000 * 56
    wider = SETTINGS.model_copy(update={"factors": 16})
    assert RelevanceFit.memory_bytes(1_000, 500, 10_000, wider) - small == 1_500 * 8 * 4 * 3
    alone = SETTINGS.model_copy(update={"regression_items": 0})
    regressed = 4 * 4 * 500**2 + 2 * 12 * 100 * 500
    assert small - RelevanceFit.memory_bytes(1_000, 500, 10_000, alone) == 10_000 * 24 + regressed + 2_000 * 8 * 10
    few = SETTINGS.model_copy(update={"regression_items": 300})
    saved = 4 * 4 * (500**2 - 300**2) + 2 * 12 * (100 - 20) * 200
    assert small - RelevanceFit.memory_bytes(1_000, 500, 10_000, few) == saved


def big_planted() -> TrainingSet:
    """Enough ratings to choose settings from."""
    return planted_set(users=300, items=120, ratings=9_000)


def test_folding_a_fitted_user_in_gives_their_own_row() -> None:
    data = big_planted()
    check_own_rows(data, fitted(data)[0])


def check_own_rows(data: TrainingSet, head: RelevanceHead) -> None:
    solver, users_N = HeadSolver(head), data.users_N.numpy()
    for user in (0, 7, 299):
        own_N = users_N == user
        rated = data.items_N.numpy()[own_N].astype(np.int64), data.ratings_N.numpy()[own_N]
        row_G = head.user_factors[user].numpy()
        np.testing.assert_allclose(solver.solve(*rated), row_G, rtol=1e-3, atol=1e-4)
        score = float(head.item_factors[3].numpy() @ row_G)
        assert solver.contributions(*rated, 3).sum() == pytest.approx(score, rel=1e-3, abs=1e-4)


@pytest.fixture(scope="module")
def series() -> TrainingSet:
    """Items in 60 series of four parts; users like some series, and have rated three or four parts of each of these."""
    rng = np.random.default_rng(0)
    ratings = [
        (user, 4 * int(liked) + int(part), float(rng.integers(3, 6)))
        for user in range(400)
        for liked in rng.choice(60, 8, replace=False)
        for part in rng.permutation(4)[: rng.integers(3, 5)]
    ]
    return training_set(ratings, 400, 240)


def test_of_many_small_groups_users_are_solved_for_on_the_columns_of_the_regression(series: TrainingSet) -> None:
    settings = SETTINGS.model_copy(update={"rank": 60})
    head, _ = fitted(series, settings)
    assert head.rule.solved_factors == head.factors == 60
    alone, _ = fitted(series, settings.model_copy(update={"regression_items": 0}))
    assert missing_parts(head, series) > missing_parts(alone, series) + 0.2


def test_the_log_tells_the_choice_in_words(series: TrainingSet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fitted(series, SETTINGS.model_copy(update={"rank": 60}))
    assert "a regression on neighbours alone, ridge " in caplog.text
    assert caplog.text.rstrip().endswith(", users solved for on its columns")
    assert str(NO_REGRESSION) == "no regression"
    assert str(Choice()) == "a regression on all covered items, ridge 50, damping 0, weight 1"


def missing_parts(head: RelevanceHead, series: TrainingSet) -> float:
    """The share of users whose first item is the part that they lack of a series, among those who lack one."""
    users_N, items_N = series.users_N.numpy(), series.items_N.numpy()
    seen = TrainingRatings.from_ratings(users_N, items_N, series.ratings_N.numpy(), series.users)
    first_U = top_items(by_relevance(head), torch.arange(series.users), 1, excluded=seen.rows(torch.arange(400)))[:, 0]
    has_UI = np.zeros((series.users, series.items // 4), dtype=np.int64)
    np.add.at(has_UI, (users_N, items_N // 4), 1)
    lacks_U = (has_UI == 3).any(1)
    return float((has_UI[np.arange(400), first_U.numpy() // 4] == 3)[lacks_U].mean())


def test_folding_a_user_in_gives_their_own_row_on_such_columns_too(series: TrainingSet) -> None:
    check_own_rows(series, fitted(series, SETTINGS.model_copy(update={"rank": 60}))[0])


def test_the_head_has_at_most_the_rank_and_the_solved_factors_first() -> None:
    head, _ = fitted(big_planted())
    assert (head.factors, head.rule.solved_factors) == (16, 6)
    factors, _ = fitted(big_planted(), SETTINGS.model_copy(update={"regression_items": 0}))
    assert factors.factors == 6
    assert (factors.summed_factors == 0).all()


def test_the_last_item_has_scores_where_the_regression_covers_few() -> None:
    """Items beyond the covered ones have columns of the regression too, only no rows."""
    head, _ = fitted(big_planted(), SETTINGS.model_copy(update={"regression_items": 20}))
    assert (head.summed_factors != 0).any(1).sum() == 20
    assert head.item_factors[:-1, 6:].abs().sum(1).min() > 0
