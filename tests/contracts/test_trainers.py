"""What every trainer must do. A file in `training/fit/trainers/` inherits all of this, with its default settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from models.mf import MatrixFactorization
from tests.support.data import planted_set, training_set
from training import config
from training.constants import preset_names
from training.fit import trainers
from training.fit.loop import Epoch, fit
from training.fit.trainer import Trainer, TrainingSet

MAX_EPOCHS = 20  # what a trainer can show it can show in so many: more would only take longer


def make(name: str, data: TrainingSet, seed: int = 0) -> Trainer[Any]:
    trainer = trainers.find(name)
    return trainer(data, trainer.Settings(), np.random.default_rng(seed))


def run(trainer: Trainer[Any], epochs: int) -> list[float]:
    """The losses of so many epochs."""
    return [float(trainer.epoch()["loss"]) for _ in range(min(epochs, trainer.epochs))]


def predictions(model: MatrixFactorization, data: TrainingSet) -> torch.Tensor:
    return model(data.users_N.long(), data.items_N.long())


def is_usable(model: MatrixFactorization, data: TrainingSet) -> bool:
    """Finite float32 tables of the right shapes, the rows for unknown ids included."""
    factors = model.factors
    rows = {"mean": (), "user_factors": (data.users + 1, factors), "item_factors": (data.items + 1, factors)}
    rows |= {"user_bias": (data.users + 1,), "item_bias": (data.items + 1,)}
    tensors = model.tensors()
    assert {name: tuple(tensors[name].shape) for name in rows} == rows
    return all(table.dtype == torch.float32 and bool(table.isfinite().all()) for table in tensors.values())


def equal(one: MatrixFactorization, other: MatrixFactorization) -> bool:
    """Whether all tables are the same, bit for bit."""
    tables, others = one.tensors(), other.tensors()
    return tables.keys() == others.keys() and all(torch.equal(tables[name], others[name]) for name in tables)


@pytest.fixture(scope="module")
def planted() -> TrainingSet:
    return planted_set()


@pytest.fixture(scope="module")
def small() -> TrainingSet:
    return planted_set(users=60, items=40, ratings=900)


@pytest.fixture(params=trainers.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_is_a_preset_for_it(name: str) -> None:
    assert name in {config.load_preset(preset).trainer for preset in preset_names()}


def test_its_model_is_usable_before_and_after_each_epoch(name: str, small: TrainingSet) -> None:
    trainer = make(name, small)
    assert is_usable(trainer.model(), small)
    for _ in range(2):
        assert math.isfinite(float(trainer.epoch()["loss"]))
        assert is_usable(trainer.model(), small)


def test_it_learns_more_than_the_mean(name: str, planted: TrainingSet) -> None:
    trainer = make(name, planted)
    losses = run(trainer, MAX_EPOCHS)
    residual_N = predictions(trainer.model(), planted) - planted.ratings_N
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    assert float(residual_N.square().mean()) < float(planted.ratings_N.var())


def test_the_loop_can_drive_it_to_its_last_epoch(name: str, small: TrainingSet) -> None:
    trainer, reported = make(name, small), list[Epoch]()
    history = fit(trainer, None, reported.append)
    assert [epoch.number for epoch in history] == list(range(1, trainer.epochs + 1))
    assert reported == history


def test_a_seed_repeats_bit_for_bit(name: str, small: TrainingSet) -> None:
    one, same = make(name, small, seed=3), make(name, small, seed=3)
    assert run(one, 3) == run(same, 3)
    assert equal(one.model(), same.model())


def test_another_seed_matters_to_a_trainer_that_draws(name: str, small: TrainingSet) -> None:
    one, other = make(name, small, seed=3), make(name, small, seed=4)
    draws = one.rng.bit_generator.state != np.random.default_rng(3).bit_generator.state
    run(one, 2)
    run(other, 2)
    draws |= one.rng.bit_generator.state != np.random.default_rng(3).bit_generator.state
    assert equal(one.model(), other.model()) != draws


def test_it_continues_from_a_state_as_if_it_had_never_stopped(name: str, small: TrainingSet) -> None:
    uninterrupted, stopped, resumed = make(name, small), make(name, small), make(name, small, seed=9)
    expected = run(uninterrupted, 4)
    before = run(stopped, 2)
    state = {key: tensor.clone() for key, tensor in stopped.state().items()}
    run(stopped, 1)  # must not reach into the state it gave
    resumed.restore(state)
    assert before + run(resumed, 2) == expected
    assert equal(resumed.model(), uninterrupted.model())


def test_it_continues_from_a_state_taken_before_the_first_epoch(name: str, small: TrainingSet) -> None:
    fresh, resumed = make(name, small), make(name, small, seed=9)
    resumed.restore({key: tensor.clone() for key, tensor in fresh.state().items()})
    assert run(resumed, 2) == run(fresh, 2)


def test_its_model_does_not_change_when_it_goes_on(name: str, small: TrainingSet) -> None:
    trainer = make(name, small)
    run(trainer, 1)
    model = trainer.model()
    before = {key: table.clone() for key, table in model.tensors().items()}
    run(trainer, 1)
    assert all(torch.equal(table, before[key]) for key, table in model.tensors().items())


def test_it_leaves_its_data_alone(name: str) -> None:
    data, untouched = (planted_set(users=60, items=40, ratings=900) for _ in range(2))
    run(make(name, data), 2)
    assert torch.equal(data.users_N, untouched.users_N)
    assert torch.equal(data.items_N, untouched.items_N)
    assert torch.equal(data.ratings_N, untouched.ratings_N)


def test_unknown_ids_are_answered_near_the_mean(name: str, planted: TrainingSet) -> None:
    trainer = make(name, planted)
    run(trainer, MAX_EPOCHS)
    predicted = trainer.model()(torch.tensor([planted.users]), torch.tensor([planted.items]))
    assert float(predicted) == pytest.approx(float(planted.ratings_N.mean()), abs=0.5)


HARD_SETS = {
    "a user and an item with one rating": [
        (0, 0, 4.0),
        (0, 1, 2.0),
        (1, 0, 3.0),
        (1, 1, 5.0),
        (2, 0, 1.0),
        (0, 2, 5.0),
    ],
    "all ratings equal": [(user, item, 3.0) for user in range(3) for item in range(3)],
    "all ratings zero": [(user, item, 0.0) for user in range(3) for item in range(3)],
    "a scale of hundreds": [(user, item, 100.0 * (user + item)) for user in range(3) for item in range(3)],
    "negative ratings": [(user, item, float(-user * item)) for user in range(3) for item in range(3)],
    "everyone rated once": [(0, 0, 1.0), (1, 1, 5.0), (2, 2, 3.0)],
}


@pytest.mark.parametrize("ratings", HARD_SETS.values(), ids=HARD_SETS)
def test_it_survives_hard_data(name: str, ratings: list[tuple[int, int, float]]) -> None:
    data = training_set(ratings, users=3, items=3)
    trainer = make(name, data)
    assert all(map(math.isfinite, run(trainer, 3)))
    assert is_usable(trainer.model(), data)


def test_a_warm_start_begins_where_the_earlier_model_ended_or_says_that_it_does_not(
    name: str, planted: TrainingSet
) -> None:
    earlier = make(name, planted)
    run(earlier, MAX_EPOCHS)
    warm, cold = make(name, planted, seed=1), make(name, planted, seed=1)
    before = float(make(name, planted, seed=1).epoch()["loss"])
    assert before == float(cold.epoch()["loss"])
    if warm.warm_start(earlier.model()):
        assert float(warm.epoch()["loss"]) < before
    else:
        assert float(warm.epoch()["loss"]) == before
    assert is_usable(warm.model(), planted)
