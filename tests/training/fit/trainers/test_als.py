from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.als_reference import solve_rows
from training.config import load_preset
from training.data.synthetic import planted
from training.fit.kernels.als import TorchRows
from training.fit.kernels.als_rows import HalfStep
from training.fit.trainer import TrainingSet
from training.fit.trainers.als import Als, AlsSettings

USERS, ITEMS = 300, 200
SETTINGS = AlsSettings(factors=15, sweeps=6)


def training_set(users_N, items_N, ratings_N, users=USERS, items=ITEMS):
    return TrainingSet(
        users=users,
        items=items,
        users_N=torch.as_tensor(users_N, dtype=torch.int32),
        items_N=torch.as_tensor(items_N, dtype=torch.int32),
        ratings_N=torch.as_tensor(ratings_N, dtype=torch.float32),
    )


@pytest.fixture(scope="module")
def parts():
    """Training and test part, 22,000 and 2,000 ratings."""
    columns = planted(USERS, ITEMS, 24_000, np.random.default_rng(0))
    return training_set(*(column[:22_000] for column in columns)), training_set(
        *(column[22_000:] for column in columns)
    )


def fitted(data, settings=SETTINGS, seed=0):
    trainer = Als(data, settings, np.random.default_rng(seed))
    losses = [float(trainer.epoch()["loss"]) for _ in range(trainer.epochs)]
    return trainer.model(), losses


def predictions(model, data):
    return model(data.users_N, data.items_N)


def rmse(model, data):
    return float((predictions(model, data) - data.ratings_N).square().mean().sqrt())


def test_the_planted_truth_is_found(parts):
    train, test = parts
    biases_only = fitted(train, AlsSettings(factors=15, regularisation=1e6))[0]
    assert rmse(fitted(train)[0], test) < 0.96 * rmse(biases_only, test)


def test_the_loss_is_the_mean_squared_error_of_the_training_ratings(parts):
    train, _ = parts
    model, losses = fitted(train)
    assert losses[-1] == pytest.approx(rmse(model, train) ** 2, rel=1e-4)
    assert losses == sorted(losses, reverse=True)


def test_a_sweep_is_that_of_the_reference(parts):
    train, _ = parts
    trainer = Als(train, SETTINGS, np.random.default_rng(0))
    items_IK = trainer.item_table_IK.clone()
    trainer.epoch()
    z_N = (train.ratings_N.double() - train.ratings_N.double().mean()) / train.ratings_N.double().std(correction=0)
    ridges = [SETTINGS.regularisation * counts**0.5 for counts in (train.user_counts(), train.item_totals())]
    users_UK, _ = solve_rows(train.users_N, train.items_N, z_N, HalfStep(items_IK, ridges[0], 3.0))
    items_IK, _ = solve_rows(train.items_N, train.users_N, z_N, HalfStep(users_UK, ridges[1], 3.0))
    torch.testing.assert_close(trainer.user_table_UK.double(), users_UK, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(trainer.item_table_IK.double(), items_IK, rtol=1e-3, atol=1e-4)


def test_the_order_of_the_ratings_does_not_matter(parts):
    train, test = parts
    order_N = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    shuffled = training_set(train.users_N[order_N], train.items_N[order_N], train.ratings_N[order_N])
    difference = predictions(fitted(shuffled)[0], test) - predictions(fitted(train)[0], test)
    assert difference.abs().max() < 0.01


def test_the_numbering_of_users_does_not_matter_and_that_of_items_is_a_seed(parts):
    train, test = parts
    generator = torch.Generator().manual_seed(0)
    users_U, items_I = torch.randperm(USERS, generator=generator), torch.randperm(ITEMS, generator=generator)

    def renumber(part, users_U, items_I):
        return replace(part, users_N=users_U[part.users_N].int(), items_N=items_I[part.items_N].int())

    expected = rmse(fitted(train)[0], test)
    same_items = torch.arange(ITEMS)
    users_only = fitted(renumber(train, users_U, same_items))[0]
    assert rmse(users_only, renumber(test, users_U, same_items)) == pytest.approx(expected, abs=1e-4)
    seeds = [rmse(fitted(train, seed=seed)[0], test) for seed in range(1, 6)]
    both = fitted(renumber(train, users_U, items_I))[0]
    assert rmse(both, renumber(test, users_U, items_I)) == pytest.approx(expected, abs=4 * np.std([expected, *seeds]))


@pytest.mark.parametrize(("scale", "shift"), [(10, 3), (1e-6, 0), (1e12, 0), (-1, 0)])
def test_another_scale_of_ratings_gives_the_same_model_on_that_scale(parts, scale, shift):
    train, test = parts
    scaled_train, scaled_test = (replace(part, ratings_N=part.ratings_N * scale + shift) for part in parts)
    expected = abs(scale) * rmse(fitted(train)[0], test)
    assert rmse(fitted(scaled_train)[0], scaled_test) == pytest.approx(expected, rel=1e-3)


def test_one_and_two_threads_agree(parts):
    train, test = parts
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(predictions(fitted(train)[0], test))
    finally:
        torch.set_num_threads(before)
    assert (answers[0] - answers[1]).abs().max() < 1e-5


def test_a_resumed_fit_equals_an_uninterrupted_one(parts):
    train, test = parts
    interrupted = Als(train, SETTINGS, np.random.default_rng(0))
    for _ in range(2):
        interrupted.epoch()
    state = interrupted.state()
    interrupted.epoch()  # must not change what was taken
    resumed = Als(train, SETTINGS, np.random.default_rng(99))
    resumed.restore(state)
    for _ in range(4):
        resumed.epoch()
    assert torch.equal(predictions(resumed.model(), test), predictions(fitted(train)[0], test))


def test_the_model_is_usable_before_the_first_sweep(parts):
    train, test = parts
    model = Als(train, SETTINGS, np.random.default_rng(0)).model()
    torch.testing.assert_close(predictions(model, test), train.ratings_N.mean().expand(len(test)))


def test_batches_of_torch_operations_fit_the_same_model(parts, monkeypatch):
    train, test = parts
    expected = predictions(fitted(train)[0], test)

    def torch_rows(ratings, *, width, shift, scale):
        return TorchRows(ratings._replace(values_N=((ratings.values_N - shift) * scale).float()), width)

    monkeypatch.setattr("training.fit.trainers.als.group_rows", torch_rows)
    trainer = Als(train, SETTINGS, np.random.default_rng(0))
    for _ in range(trainer.epochs):
        trainer.epoch()
    assert (predictions(trainer.model(), test) - expected).abs().max() < 0.01


def test_a_user_and_an_item_with_one_rating_stay_near_the_mean():
    data = training_set([0, 1, 1, 2, 2, 2], [0, 1, 2, 1, 2, 3], [5, 1, 2, 3, 2, 1], users=3, items=4)
    model, _ = fitted(data)
    assert data.ratings_N.mean() < model(torch.tensor([0]), torch.tensor([0])) < 5


def test_a_giant_user_and_a_giant_item_fit():
    rng = np.random.default_rng(0)
    others = 40_000
    users_N = np.concatenate([np.zeros(others), np.arange(1, others + 1)])
    items_N = np.concatenate([np.arange(1, others + 1), np.zeros(others)])
    data = training_set(users_N, items_N, rng.integers(1, 6, 2 * others), users=others + 1, items=others + 1)
    model, losses = fitted(data)
    assert losses[-1] < float(data.ratings_N.var())
    assert all(table.isfinite().all() for table in model.tensors().values())


def test_equal_ratings_are_predicted_exactly(parts):
    train, test = parts
    model, losses = fitted(replace(train, ratings_N=torch.full_like(train.ratings_N, 4)))
    assert losses[-1] == 0
    assert (predictions(model, test) == 4).all()


def test_more_factors_than_items_fit():
    rng = np.random.default_rng(0)
    data = training_set(np.repeat(np.arange(30), 5), np.tile(np.arange(5), 30), rng.integers(1, 6, 150), 30, 5)
    model, losses = fitted(data, AlsSettings(factors=15, sweeps=3))
    assert model.factors == 15
    assert losses[-1] < float(data.ratings_N.var())


def test_the_memory_estimate_counts_ratings_and_tables():
    small = Als.memory_bytes(1_000, 500, 10_000, SETTINGS)
    assert Als.memory_bytes(1_000, 500, 20_000, SETTINGS) - small == 10_000 * 28
    assert Als.memory_bytes(1_000, 500, 10_000, AlsSettings(factors=23)) - small == 1_500 * 8 * 4 * 2


def test_the_preset_is_the_one_documented():
    preset = load_preset("als")
    assert (preset.trainer, preset.settings) == ("als", AlsSettings())
