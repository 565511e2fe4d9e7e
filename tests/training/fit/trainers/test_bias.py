"""The baseline, by hand and against the normal equations that it minimises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.data import planted_set, training_set
from training.fit.trainers.bias import Bias, BiasSettings


def test_one_epoch_equals_a_computation_by_hand() -> None:
    """μ = 3. Items first: b_i = (1, −1, 0) / (1 + n). Then b_u from what is left."""
    data = training_set([(0, 0, 4.0), (0, 1, 2.0), (1, 2, 3.0)], users=2, items=3)
    trainer = Bias(data, BiasSettings(user_regularisation=2, item_regularisation=1), np.random.default_rng(0))
    loss = float(trainer.epoch()["loss"])
    assert float(trainer.mean) == 3
    assert trainer.item_bias_I.tolist() == [0.5, -0.5, 0.0]
    assert trainer.user_bias_U.tolist() == [0.0, 0.0]
    assert loss == pytest.approx((0.25 + 0.25 + 0) / 3)


def test_a_user_who_rates_high_by_hand() -> None:
    """μ = 3, items (3, 3) deserve nothing, user 0 is at +1 twice: 2 / (2 + 2)."""
    data = training_set([(0, 0, 4.0), (0, 1, 4.0), (1, 0, 2.0), (1, 1, 2.0)], users=2, items=2)
    trainer = Bias(data, BiasSettings(user_regularisation=2, item_regularisation=1), np.random.default_rng(0))
    trainer.epoch()
    assert trainer.user_bias_U.tolist() == [0.5, -0.5]


def test_at_convergence_it_solves_the_ridge_normal_equations() -> None:
    data = planted_set(users=30, items=20, ratings=250)
    settings = BiasSettings(epochs=200, user_regularisation=5, item_regularisation=3)
    trainer = Bias(data, settings, np.random.default_rng(0))
    for _ in range(trainer.epochs):
        trainer.epoch()
    design = torch.zeros(len(data), data.users + data.items, dtype=torch.float64)
    rows = torch.arange(len(data))
    design[rows, data.users_N.long()] = 1
    design[rows, data.users + data.items_N.long()] = 1
    penalty = torch.cat([torch.full((data.users,), 5.0), torch.full((data.items,), 3.0)]).double().diag()
    centred = data.ratings_N.double() - data.ratings_N.double().mean()
    solution = torch.linalg.solve(design.T @ design + penalty, design.T @ centred)
    torch.testing.assert_close(torch.cat([trainer.user_bias_U, trainer.item_bias_I]), solution)
