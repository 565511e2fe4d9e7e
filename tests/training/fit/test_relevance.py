"""The fit of the relevance head: against least squares over all cells, and on data whose order is known."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.orderings import by_relevance
from models.relevance import RelevanceHead
from models.search import top_items
from models.training_ratings import TrainingRatings
from tests.support.data import planted_set, training_set
from tests.support.orderings import all_scores
from training.fit.kernels.als import TorchRows
from training.fit.loop import fit
from training.fit.relevance import RelevanceFit, RelevanceSettings
from training.fit.trainer import TrainingSet

SETTINGS = RelevanceSettings(factors=6, sweeps=4)


class TorchFit(RelevanceFit):
    """The path for CUDA, on the CPU."""

    @cached_property
    def _sides(self) -> tuple[TorchRows, TorchRows]:
        make = partial(TorchRows, width=self._users_UK.shape[1])
        return self.data.grouped(self._targets_N / (1 - self.settings.missing_weight), make)


FITS = (RelevanceFit, TorchFit)


@pytest.fixture(scope="module")
def planted() -> TrainingSet:
    return planted_set(users=60, items=40, ratings=900)


def fitted(
    data: TrainingSet, settings: RelevanceSettings = SETTINGS, kind: type[RelevanceFit] = RelevanceFit, seed: int = 0
) -> tuple[RelevanceHead, list[float]]:
    """The head and the losses of a whole fit."""
    fit_ = kind(data, settings, np.random.default_rng(seed))
    losses = [float(fit_.epoch()["loss"]) for _ in range(fit_.epochs)]
    return fit_.model(), losses


def cells(data: TrainingSet, settings: RelevanceSettings) -> tuple[Tensor, Tensor]:
    """Target and weight of every cell, float64, (U, I)."""
    target_UI = torch.zeros(data.users, data.items, dtype=torch.float64)
    weight_UI = torch.full_like(target_UI, settings.missing_weight)
    ratings_N = data.ratings_N.double()
    standard_N = (ratings_N - ratings_N.mean()) / ratings_N.std(correction=0)
    rated = data.users_N.long(), data.items_N.long()
    target_UI[rated] = (1 + settings.slope * standard_N).clamp(min=0)
    weight_UI[rated] = 1
    return target_UI, weight_UI


def solved(target_RC: Tensor, weight_RC: Tensor, other_CG: Tensor, settings: RelevanceSettings) -> Tensor:
    """Weighted ridge regression of each row over all of its cells."""
    rows = []
    for target_C, weight_C in zip(target_RC, weight_RC, strict=True):
        ridge = settings.regularisation * float(weight_C.sum()) ** settings.exponent
        gram_GG = other_CG.T @ (weight_C[:, None] * other_CG) + ridge * torch.eye(other_CG.shape[1])
        rows.append(torch.linalg.solve(gram_GG, other_CG.T @ (weight_C * target_C)))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("change", [{}, {"factors": 11}, {"missing_weight": 0.9}, {"exponent": 1.0}, {"slope": 0.0}])
def test_every_sweep_is_least_squares_over_all_cells(
    planted: TrainingSet, kind: type[RelevanceFit], change: dict[str, Any]
) -> None:
    settings = SETTINGS.model_copy(update=change)
    target_UI, weight_UI = cells(planted, settings)
    fit_ = kind(planted, settings, np.random.default_rng(0))
    y_IG = fit_.model().item_factors[:-1].double()
    for _ in range(3):
        loss = float(fit_.epoch()["loss"])
        x_UG = solved(target_UI, weight_UI, y_IG, settings)
        y_IG = solved(target_UI.T, weight_UI.T, x_UG, settings)
        head = fit_.model()
        torch.testing.assert_close(head.user_factors[:-1].double(), x_UG, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(head.item_factors[:-1].double(), y_IG, rtol=1e-3, atol=1e-4)
        error = (weight_UI * (target_UI - x_UG @ y_IG.T).square()).sum() / len(planted)
        assert loss == pytest.approx(float(error), rel=1e-4)


def test_the_two_paths_fit_the_same_head(planted: TrainingSet) -> None:
    (cpu, cpu_losses), (batched, losses) = (fitted(planted, kind=kind) for kind in FITS)
    found_UI, expected_UI = (all_scores(by_relevance(head), range(planted.users)) for head in (batched, cpu))
    torch.testing.assert_close(found_UI, expected_UI, rtol=1e-2, atol=1e-3)
    assert losses == pytest.approx(cpu_losses, rel=1e-4)


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
    assert [epoch.number for epoch in history] == [1, 2, 3, 4]
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
            heads.append(fitted(planted)[0])
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(heads[0].item_factors, heads[1].item_factors, rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("ratings", HARD_SETS.values(), ids=HARD_SETS)
def test_it_survives_hard_data(kind: type[RelevanceFit], ratings: list[tuple[int, int, float]]) -> None:
    head, losses = fitted(training_set(ratings, 3, 3), kind=kind)
    assert all(map(math.isfinite, losses))
    assert all(table.isfinite().all() and table.dtype == torch.float32 for table in head.tensors().values())


def test_the_memory_estimate_counts_ratings_and_tables() -> None:
    small = RelevanceFit.memory_bytes(1_000, 500, 10_000, SETTINGS)
    assert RelevanceFit.memory_bytes(1_000, 500, 20_000, SETTINGS) - small == 10_000 * 32
    wider = SETTINGS.model_copy(update={"factors": 16})
    assert RelevanceFit.memory_bytes(1_000, 500, 10_000, wider) - small == 1_500 * 8 * 4 * 2
