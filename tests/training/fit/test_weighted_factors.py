"""Solved factors: against least squares over all cells, on both paths."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.data import planted_set
from training.fit.kernels.als import TorchRows
from training.fit.relevance_settings import RelevanceSettings
from training.fit.trainer import TrainingSet
from training.fit.weighted_factors import WeightedFactors

SETTINGS = RelevanceSettings(factors=6)


class TorchFactors(WeightedFactors):
    """The path for CUDA, on the CPU."""

    @cached_property
    def _sides(self) -> tuple[TorchRows, TorchRows]:
        make = partial(TorchRows, width=self._width)
        return self.data.grouped(self._targets_N / (1 - self.settings.missing_weight), make)


@pytest.fixture(scope="module")
def planted() -> TrainingSet:
    return planted_set(users=60, items=40, ratings=900)


def started(
    data: TrainingSet, settings: RelevanceSettings = SETTINGS, kind: type[WeightedFactors] = WeightedFactors
) -> WeightedFactors:
    factors = kind(data, settings)
    factors.start(np.random.default_rng(0))
    return factors


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


@pytest.mark.parametrize("kind", [WeightedFactors, TorchFactors])
@pytest.mark.parametrize("change", [{}, {"factors": 11}, {"missing_weight": 0.9}, {"exponent": 1.0}, {"slope": 0.0}])
def test_every_sweep_is_least_squares_over_all_cells(
    planted: TrainingSet, kind: type[WeightedFactors], change: dict[str, Any]
) -> None:
    settings = SETTINGS.model_copy(update=change)
    target_UI, weight_UI = cells(planted, settings)
    factors = started(planted, settings, kind)
    y_IG = factors.items_IH().double()
    for _ in range(3):
        loss = float(factors.sweep())
        x_UG = solved(target_UI, weight_UI, y_IG, settings)
        y_IG = solved(target_UI.T, weight_UI.T, x_UG, settings)
        torch.testing.assert_close(factors.items_IH().double(), y_IG, rtol=1e-3, atol=1e-4)
        error = (weight_UI * (target_UI - x_UG @ y_IG.T).square()).sum() / len(planted)
        assert loss == pytest.approx(float(error), rel=1e-4)
    wanted_UG = solved(target_UI, weight_UI, y_IG, settings)
    torch.testing.assert_close(factors.users_UH().double(), wanted_UG, rtol=1e-3, atol=1e-4)


def test_the_two_paths_fit_the_same_scores(planted: TrainingSet) -> None:
    scores = []
    for kind in (WeightedFactors, TorchFactors):
        factors = started(planted, kind=kind)
        losses = [float(factors.sweep()) for _ in range(4)]
        scores.append((factors.users_UH() @ factors.items_IH().T, losses))
    torch.testing.assert_close(scores[0][0], scores[1][0], rtol=1e-2, atol=1e-3)
    assert scores[0][1] == pytest.approx(scores[1][1], rel=1e-4)


def test_another_regularisation_holds_from_the_next_sweep_on(planted: TrainingSet) -> None:
    factors = started(planted)
    factors.sweep()
    factors.regularisation = 0.1
    mild = SETTINGS.model_copy(update={"regularisation": 0.1})
    target_UI, weight_UI = cells(planted, mild)
    wanted_UG = solved(target_UI, weight_UI, factors.items_IH().double(), mild)
    torch.testing.assert_close(factors.users_UH().double(), wanted_UG, rtol=1e-3, atol=1e-4)
