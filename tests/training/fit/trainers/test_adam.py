"""The textbook recipe: its gradient, its settings, its losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.data import planted_set, training_set
from training import config
from training.fit.trainer import TrainingSet
from training.fit.trainers.adam import Adam, AdamSettings


def test_the_preset_textbook_is_the_published_recipe() -> None:
    preset = config.load_preset("textbook")
    assert preset.trainer_class is Adam
    assert preset.settings.model_dump() == {
        "factors": 30,
        "epochs": 20,
        "batch_size": 512,
        "learning_rate": 0.002,
        "weight_decay": 1e-5,
        "initial_deviation": 0.01,
    }


def test_it_starts_from_small_normal_factors_and_no_biases() -> None:
    trainer = Adam(planted_set(), AdamSettings(), np.random.default_rng(0))
    factors, biases = trainer.table[:, :-1], trainer.table[:, -1]
    assert float(factors.std()) == pytest.approx(0.01, rel=0.05)
    assert float(factors.mean()) == pytest.approx(0, abs=1e-3)
    assert not biases.any()
    assert float(trainer.model().mean) == 0


def test_the_gradient_equals_that_of_autograd() -> None:
    """In a batch where users and items repeat."""
    data = planted_set(users=12, items=10, ratings=50)
    trainer = Adam(data, AdamSettings(factors=3, initial_deviation=0.5), np.random.default_rng(0))
    users_B, items_B = data.users_N.long(), data.items_N.long()
    table = trainer.table.clone().requires_grad_()
    p_BF, q_BF = table[users_B], table[items_B + data.users]
    predicted_B = (p_BF[:, :-1] * q_BF[:, :-1]).sum(1) + p_BF[:, -1] + q_BF[:, -1]
    loss = torch.nn.functional.mse_loss(predicted_B, data.ratings_N)
    loss.backward()
    trainer.step(users_B, items_B, data.ratings_N)
    torch.testing.assert_close(trainer.table.grad, table.grad)
    torch.testing.assert_close(trainer.squared_error / len(data), loss.detach())


def test_a_step_equals_one_of_a_plain_adam() -> None:
    data = planted_set(users=12, items=10, ratings=50)
    trainer = Adam(data, AdamSettings(factors=3, initial_deviation=0.5), np.random.default_rng(0))
    table = torch.nn.Parameter(trainer.table.clone())
    plain = torch.optim.Adam([table], lr=0.002, weight_decay=1e-5)
    users_B, items_B = data.users_N.long(), data.items_N.long()
    for _ in range(3):
        p_BF, q_BF = table[users_B], table[items_B + data.users]
        predicted_B = (p_BF[:, :-1] * q_BF[:, :-1]).sum(1) + p_BF[:, -1] + q_BF[:, -1]
        plain.zero_grad()
        torch.nn.functional.mse_loss(predicted_B, data.ratings_N).backward()
        plain.step()
        trainer.step(users_B, items_B, data.ratings_N)
    torch.testing.assert_close(trainer.table, table.detach())


def golden_set() -> TrainingSet:
    """6,000 ratings of 100 users and 80 items with a planted truth of rank 2, by numpy alone."""
    rng = np.random.default_rng(2026)
    users_N, items_N = np.divmod(rng.permutation(8_000)[:6_000], 80)
    truth_UI = 3.5 + rng.standard_normal((100, 2)) @ rng.standard_normal((2, 80)) / 2
    ratings_N = np.clip(np.round(truth_UI[users_N, items_N]), 1, 5)
    rows = zip(users_N.tolist(), items_N.tolist(), ratings_N.tolist(), strict=True)
    return training_set(list(rows), users=100, items=80)


GOLDEN = [
    12.60245,
    12.2191,
    11.61812,
    10.69295,
    9.409655,
    7.827426,
    6.093431,
    4.384986,
    2.901494,
    1.790572,
    1.088869,
    0.7399408,
    0.6112026,
    0.5784454,
    0.5735393,
    0.5726287,
    0.5720422,
    0.5712851,
    0.5711781,
    0.5710559,
]


def test_losses_are_golden() -> None:
    """If the mathematics has not changed, neither may these: of the preset on `golden_set()`, seed 0, on the CPU."""
    preset = config.load_preset("textbook")
    trainer = preset.trainer_class(golden_set(), preset.settings, np.random.default_rng(0))
    losses = [float(trainer.epoch()["loss"]) for _ in range(trainer.epochs)]
    assert losses == pytest.approx(GOLDEN, rel=1e-5)
