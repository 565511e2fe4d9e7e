"""The trainer `bayes`: what it recovers, what must not matter to it, and what it refuses."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.mf import MatrixFactorization
from training.fit.loop import fit_after_trial
from training.fit.spectral import Spectral
from training.fit.trainer import TrainingSet
from training.fit.trainers.bayes import Bayes, BayesSettings, factors_for, planned
from training.fit.trainers.bias import bias_model

USERS, ITEMS, NOISE = 120, 80, 0.5
QUICK: dict[str, Any] = {"factors": 7, "burn_in": 8, "samples": 20, "rank": 16}
ONE_VARIANT: dict[str, Any] = {"effects": "yes", "heavy_tails": "yes"}


@pytest.fixture(scope="module")
def planted() -> tuple[TrainingSet, TrainingSet]:
    """Ratings of three factors, biases and noise; 4,000 to train on and 1,000 held out."""
    rng = np.random.default_rng(5)
    p_UF, q_IF = rng.normal(size=(USERS, 3)), rng.normal(size=(ITEMS, 3))
    expected_UI = 3 + 0.6 * p_UF @ q_IF.T + 0.4 * rng.normal(size=(USERS, 1)) + 0.4 * rng.normal(size=ITEMS)
    pairs_N = rng.permutation(USERS * ITEMS)[:5000]
    ratings_N = (expected_UI + NOISE * rng.normal(size=expected_UI.shape)).ravel()[pairs_N]
    everything = make_set(pairs_N // ITEMS, pairs_N % ITEMS, ratings_N, USERS, ITEMS)
    return take(everything, slice(None, 4000)), take(everything, slice(4000, None))


def make_set(users: Any, items: Any, ratings: Any, user_count: int, item_count: int, **more: Any) -> TrainingSet:
    return TrainingSet(
        users=user_count,
        items=item_count,
        users_N=torch.as_tensor(np.asarray(users), dtype=torch.int32),
        items_N=torch.as_tensor(np.asarray(items), dtype=torch.int32),
        ratings_N=torch.as_tensor(np.asarray(ratings), dtype=torch.float32),
        **more,
    )


def drawn_pairs(rng: np.random.Generator, count: int, users: int, items: int) -> tuple[Any, Any]:
    """Different pairs of a user and an item."""
    return np.divmod(rng.permutation(users * items)[:count], items)


def take(data: TrainingSet, rows: Any) -> TrainingSet:
    return dataclasses.replace(
        data, users_N=data.users_N[rows], items_N=data.items_N[rows], ratings_N=data.ratings_N[rows]
    )


def trained(data: TrainingSet, epochs: int | None = None, **settings: Any) -> Bayes:
    """Without a trial."""
    trainer = Bayes(data, BayesSettings(**(QUICK | ONE_VARIANT | settings)), np.random.default_rng(0))
    for _ in range(trainer.epochs if epochs is None else epochs):
        trainer.epoch()
    return trainer


def predictions(model: MatrixFactorization, data: TrainingSet) -> Tensor:
    return model(data.users_N.long(), data.items_N.long())


def rmse(model: MatrixFactorization, data: TrainingSet) -> float:
    return float((predictions(model, data) - data.ratings_N).double().square().mean().sqrt())


def fitted(data: TrainingSet, **settings: Any) -> Bayes:
    """After a trial of all variants."""
    trainer = Bayes(data, BayesSettings(**(QUICK | {"trial": 30} | settings)), np.random.default_rng(0))
    fit_after_trial(trainer, None, lambda _: None)
    return trainer


@pytest.mark.parametrize("effects", ["no", "yes", "auto"])
def test_held_out_error_comes_near_the_noise(planted: tuple[TrainingSet, TrainingSet], effects: str) -> None:
    train, test = planted

    assert NOISE * 0.95 < rmse(trained(train, effects=effects).model(), test) < NOISE * 1.2


def test_a_trial_finds_the_variants_that_the_data_is_of(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train, test = planted

    trainer = fitted(train)

    assert float(trainer.learned.baseline) == 0
    assert float(trainer.learned.weights_V.sum() + trainer.learned.spectral) == pytest.approx(1)
    assert rmse(trainer.model(), test) < rmse(trained(train).model(), test) * 1.02


def test_the_published_model_is_the_weighted_mean_of_variants_spectral_model_and_biases(
    planted: tuple[TrainingSet, TrainingSet],
) -> None:
    train, test = planted
    trainer, biases = trained(train, rank=ITEMS), bias_model(train)  # nothing is cut off
    weights = {"spectral": torch.tensor(0.3), "baseline": torch.tensor(0.2), "features": torch.tensor(8)}
    variants_N = predictions(trainer.model(), test)

    trainer.learned = trainer.learned._replace(weights_V=0.5 * trainer.learned.weights_V, **weights)

    spectral_N = predictions(Spectral(train, biases, 8).model(8), test)
    expected_N = 0.5 * variants_N + 0.3 * spectral_N + 0.2 * predictions(biases, test)
    torch.testing.assert_close(predictions(trainer.model(), test), expected_N, rtol=0, atol=2e-3)


def test_a_model_that_biases_alone_explain_is_not_behind_them() -> None:
    rng = np.random.default_rng(3)
    users_N, items_N = drawn_pairs(rng, 4000, 300, 200)
    bias_U, bias_I = rng.normal(size=300), rng.normal(size=200)
    everything = make_set(users_N, items_N, bias_U[users_N] + bias_I[items_N] + rng.normal(size=4000), 300, 200)
    train, test = take(everything, slice(None, 3000)), take(everything, slice(3000, None))

    assert rmse(fitted(train).model(), test) < 1.01 * rmse(bias_model(train), test)


def test_lopsided_errors_are_predicted_by_their_mean_and_covered_by_lopsided_intervals() -> None:
    rng = np.random.default_rng(4)
    users_N, items_N = drawn_pairs(rng, 24_000, 400, 200)
    ratings_N = rng.normal(size=400)[users_N] / 2 + rng.normal(size=200)[items_N] / 2 - rng.exponential(size=24_000)
    everything = make_set(users_N, items_N, ratings_N, 400, 200)
    train, test = take(everything, slice(None, 18_000)), take(everything, slice(18_000, None))

    model = fitted(train).model()

    low_N, high_N = model.intervals(test.users_N.long(), test.items_N.long())
    below, above = (test.ratings_N < low_N).double().mean(), (test.ratings_N > high_N).double().mean()
    assert (float(below), float(above)) == pytest.approx((0.05, 0.05), abs=0.012)
    assert model.interval_deviations[0] > 1.3 * model.interval_deviations[1]
    assert float((predictions(model, test) - test.ratings_N).mean()) == pytest.approx(0, abs=0.04)


def test_too_few_ratings_for_a_trial_are_mentioned_and_variants_count_equally(
    planted: tuple[TrainingSet, TrainingSet], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    trainer = fitted(take(planted[0], slice(None, 500)))

    assert "there are too few ratings for a trial" in caplog.text
    assert trainer.learned.weights_V.tolist() == [0.25] * 4


def test_a_fit_that_has_learned_from_a_trial_goes_on_as_if_it_had_not_been_interrupted(
    planted: tuple[TrainingSet, TrainingSet],
) -> None:
    train, test = planted
    first = fitted(train, samples=6)
    second = Bayes(train, first.settings, np.random.default_rng(99))
    second.restore(first.state())
    for trainer in (first, second):
        trainer.epoch()

    assert second.epochs == first.epochs
    assert torch.equal(predictions(second.model(), test), predictions(first.model(), test))
    assert torch.equal(second.model().interval_deviations, first.model().interval_deviations)


def test_the_number_of_chains_is_a_multiple_and_heavier_variants_have_more() -> None:
    settings = BayesSettings(chains=2)
    assert planned(settings, [0.2, 0.5, 0.0, 0.3]) == [(0, 0.2), (1, 0.25), (1, 0.25), (3, 0.3)]
    assert planned(settings, [0.0, 0.8, 0.0, 0.0]) == [(1, 0.5), (1, 0.5)]


def test_more_ranks_than_chains_have_a_chain_each() -> None:
    settings = BayesSettings(chains=2)
    assert planned(settings, [0.0, 0.8, 0.0, 0.0], 4) == [(1, 0.25)] * 4
    assert [variant for variant, _ in planned(settings, [0.2, 0.8, 0.0, 0.0], 3)] == [0, 1, 1]
    assert len(planned(settings, [0.25] * 4, 3)) == 6


def test_more_ratings_for_each_row_bear_more_factors() -> None:
    found = [factors_for(users, items, ratings) for users, items, ratings in ((2, 1, 3), (943, 1682, 90_000))]
    assert found == [15, 15]
    assert factors_for(6040, 3706, 900_000) == 39


def test_intervals_cover_what_they_say(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train, test = planted
    model = trained(train, samples=60).model()

    variance_N = model.variance(test.users_N.long(), test.items_N.long())

    assert variance_N is not None
    covered_N = (predictions(model, test) - test.ratings_N).abs() < 1.645 * variance_N.sqrt()
    assert covered_N.double().mean().item() == pytest.approx(0.9, abs=0.04)


def test_biases_of_many_rows_with_few_ratings_are_found_in_few_sweeps() -> None:
    rng = np.random.default_rng(6)
    users_N, items_N = np.repeat(np.arange(6000), 3), rng.integers(400, size=18_000)
    ratings_N = rng.normal(size=6000)[users_N] + rng.normal(size=400)[items_N] + 0.7 * rng.normal(size=18_000)
    train = make_set(users_N, items_N, ratings_N, 6000, 400)

    model = trained(train, epochs=12, effects="no").model()

    assert float(model.user_bias[:-1].std()) > 0.7
    assert float(model.item_bias[:-1].std()) == pytest.approx(1, abs=0.15)


def test_order_of_users_items_and_rows_does_not_matter(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train, test = planted
    generator = torch.Generator().manual_seed(3)
    new_user_U, new_item_I = torch.randperm(USERS, generator=generator), torch.randperm(ITEMS, generator=generator)
    renamed = [
        dataclasses.replace(part, users_N=new_user_U[part.users_N].int(), items_N=new_item_I[part.items_N].int())
        for part in (train, test)
    ]
    shuffled = take(renamed[0], torch.randperm(len(train), generator=generator))

    assert rmse(trained(shuffled).model(), renamed[1]) == pytest.approx(rmse(trained(train).model(), test), rel=0.02)


@pytest.mark.parametrize(("scale", "shift"), [(10, 3), (1e-6, 0), (1e6, -1e6)])
def test_scale_of_the_ratings_does_not_matter(
    planted: tuple[TrainingSet, TrainingSet], scale: float, shift: float
) -> None:
    train, test = (dataclasses.replace(part, ratings_N=part.ratings_N * scale + shift) for part in planted)

    expected = scale * rmse(trained(planted[0]).model(), planted[1])

    assert rmse(trained(train).model(), test) == pytest.approx(expected, rel=1e-3)


def test_number_of_threads_does_not_matter(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train, test = planted
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_N = predictions(trained(train).model(), test)
        torch.set_num_threads(3)
        three_N = predictions(trained(train).model(), test)
    finally:
        torch.set_num_threads(before)

    torch.testing.assert_close(one_N, three_N, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stop", [3, 15])
def test_interrupted_fit_goes_on_as_if_it_had_not_been(planted: tuple[TrainingSet, TrainingSet], stop: int) -> None:
    train, test = planted
    first = trained(train, epochs=stop)
    second = Bayes(train, first.settings, np.random.default_rng(99))
    second.restore(first.state())
    for trainer in (first, second):
        for _ in range(5):
            trainer.epoch()

    assert torch.equal(predictions(second.model(), test), predictions(first.model(), test))
    assert torch.equal(second.model().item_variance, first.model().item_variance)


def test_collapse_to_the_published_rank_loses_nothing_to_speak_of(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train, test = planted

    published, whole = (rmse(trained(train, rank=rank).model(), test) for rank in (16, 60))

    assert published == pytest.approx(whole, abs=3e-4)


def test_loss_is_the_training_error_of_the_sample_in_units_of_the_ratings(
    planted: tuple[TrainingSet, TrainingSet],
) -> None:
    train = planted[0]
    settings = BayesSettings(**QUICK | {"chains": 1, "burn_in": 5, "effects": "no", "heavy_tails": "yes"})
    trainer = Bayes(train, settings, np.random.default_rng(0))

    loss = trainer.epoch()["loss"]

    assert math.sqrt(loss) == pytest.approx(rmse(trainer.model(), train), rel=1e-4)


def test_model_is_usable_before_the_first_epoch(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train, test = planted

    assert rmse(trained(train, epochs=0).model(), test) < 1.1 * test.ratings_N.std().item()


def test_attributes_predict_items_that_nobody_has_rated() -> None:
    rng = np.random.default_rng(2)
    attributes_IA = rng.normal(size=(60, 3)).astype(np.float32)
    bias_I = attributes_IA @ [0.7, -0.5, 0.0]
    users_N, items_N = rng.integers(100, size=3000), rng.integers(50, size=3000)
    ratings_N = 3 + bias_I[items_N] + 0.3 * rng.normal(size=3000)
    data = make_set(users_N, items_N, ratings_N, 100, 60, item_attributes_IA=torch.from_numpy(attributes_IA))

    model = trained(data).model()

    unrated_I = torch.arange(50, 60)
    predicted_I = model(torch.zeros(10, dtype=torch.int64), unrated_I)
    assert np.corrcoef(predicted_I, bias_I[50:])[0, 1] > 0.9
    assert model.item_variance[50:60].mean() > model.item_variance[:50].mean()


def test_unknown_user_and_item_get_about_the_mean_with_more_variance(
    planted: tuple[TrainingSet, TrainingSet],
) -> None:
    train, test = planted
    model = trained(train).model()
    unknown_N = torch.full((len(test),), USERS)

    predicted_N = model(unknown_N, test.items_N.long())

    assert predicted_N.mean().item() == pytest.approx(train.ratings_N.mean().item(), abs=0.2)
    assert model.user_variance[-1] > model.user_variance[:-1].mean()
    assert model.item_variance[-1] > model.item_variance[:-1].mean()


def test_equal_ratings_are_predicted_as_such() -> None:
    data = make_set(np.arange(40) % 8, np.arange(40) % 5, np.full(40, 4.0), 8, 5)

    model = trained(data).model()

    assert rmse(model, data) < 0.2


@pytest.mark.parametrize(
    ("users", "items"),
    [
        (np.arange(30), np.arange(30)),
        (np.zeros(500), np.arange(500)),
        (np.arange(40) // 2, np.arange(40) % 2),
    ],
    ids=["one rating each", "one giant user", "more factors than items"],
)
def test_odd_data_gives_finite_answers_within_reach(users: Any, items: Any) -> None:
    ratings_N = np.random.default_rng(0).choice([1.0, 5.0], len(users))
    data = make_set(users, items, ratings_N, int(users.max()) + 1, int(items.max()) + 1)

    model = trained(data).model()

    predicted_N = predictions(model, data)
    variance_N = model.variance(data.users_N.long(), data.items_N.long())
    assert predicted_N.isfinite().all()
    assert variance_N is not None
    assert (variance_N > 0).all()
    assert -3 < predicted_N.min().item() <= predicted_N.max().item() < 9


def test_memory_estimate_covers_the_tensors_it_holds(planted: tuple[TrainingSet, TrainingSet]) -> None:
    train = planted[0]
    trainer = trained(train, epochs=12)

    held = sum(tensor.numel() * tensor.element_size() for tensor in trainer.state().values())

    assert held < Bayes.memory_bytes(USERS, ITEMS, len(train), trainer.settings)
