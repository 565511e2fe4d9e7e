"""Coordinate descent: every step is exact, so the error it minimises never rises."""

from __future__ import annotations

import numpy as np

from tests.support.data import planted_set
from training.fit.trainers.coordinate import Coordinate, CoordinateSettings


def objective(trainer: Coordinate) -> float:
    penalty = sum(float(table.square().sum()) for table in trainer.state().values())
    return float(trainer._residual().square().sum()) + trainer.settings.regularisation * penalty


def test_no_epoch_raises_what_is_minimised() -> None:
    trainer = Coordinate(planted_set(), CoordinateSettings(), np.random.default_rng(0))
    before = objective(trainer)
    for _ in range(5):
        trainer.epoch()
        after = objective(trainer)
        assert after < before
        before = after
