"""Fits the models of a job: rating model, relevance head, baseline. It knows neither judging nor publishing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from models.checkpoint.reader import Checkpoint
from models.mf import MatrixFactorization
from models.training_ratings import TrainingRatings
from training.config import JobConfig, Preset
from training.data.interactions import Interactions
from training.data.recency import recency_weights
from training.data.split import parse_split
from training.data.train_test import TrainTest
from training.data.trial_split import trial_rows
from training.errors import ConfigError
from training.evaluation.evaluate import TestSet, held_out_rmse, make_test_set
from training.fit.fit_state import FitState
from training.fit.loop import Epoch, fit, fit_after_trial
from training.fit.relevance import RelevanceFit
from training.fit.trainer import Trainer, TrainingSet
from training.results import Fitted, Result
from training.runtime import Runtime

log = logging.getLogger(__name__)
LOSS_OF_HEAD = (
    "its loss leaves out the penalty, so it may rise while the sum of both falls, and when the regularisation changes"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job: its configuration and device, and functions to call for each epoch and each step."""

    config: JobConfig
    preset: Preset
    runtime: Runtime
    device: torch.device
    threads: int
    report: Callable[[Epoch], None]
    phase: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FitData:
    """The ratings of a job, as read, and as tensors for fitting, evaluation and publication.

    `training` and `test` are on the device, `test` is None if it is empty; `seen` are each user's training ratings.
    """

    train_test: TrainTest
    training: TrainingSet
    test: TestSet | None
    seen: TrainingRatings


def prepare(run: Run, ratings: TrainTest) -> FitData:
    """Bring the ratings to the device. Raises ConfigError if a fit on them would not fit into the free memory."""
    check_memory(run, ratings.train)
    train = ratings.train
    training = run.runtime.training_set(ratings, run.device)
    trial_N = trial_rows(train, parse_split("none" if run.config.test else run.config.split), ratings.communicator)
    if trial_N is not None:
        training = replace(training, trial_N=torch.from_numpy(trial_N).to(run.device))
    if run.config.half_life is not None:
        check_weights(run)
        weights_N = torch.from_numpy(recency_weights(train, run.config.half_life))
        training = replace(training, weights_N=weights_N.to(run.device))
    return FitData(
        train_test=ratings,
        training=training,
        test=make_test_set(train, ratings.test, ratings.scale, run.config.relevant, run.device, ratings.communicator),
        seen=TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, train.users),
    )


def check_weights(run: Run) -> None:
    """Raise ConfigError where weights of the ratings cannot be used."""
    if not run.preset.trainer_class.uses_weights:
        raise ConfigError(
            f"the preset {run.preset.name} cannot weight ratings: leave out --half-life, or use als or bayes"
        )
    if run.runtime.communicator.size > 1:
        raise ConfigError("--half-life cannot be used under torchrun")


def check_memory(run: Run, train: Interactions) -> None:
    """Raise ConfigError if the rating model or the head needs too much memory. They are fitted one after the other."""
    preset, shape = run.preset, (train.users, train.items, len(train))
    needed = preset.trainer_class.memory_bytes(*shape, preset.settings)
    if preset.relevance is not None:
        needed = max(needed, RelevanceFit.memory_bytes(*shape, preset.relevance))
    free = run.runtime.free_memory(run.device)
    if needed > free:
        raise ConfigError(
            f"this fit needs about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {run.device}: "
            "use fewer factors or fewer ratings"
        )


def saved_state(run: Run, ratings: TrainTest) -> FitState:
    """The saved state of this fit, or an object that saves nothing without `--resume`."""
    config, preset = run.config, run.preset
    if config.resume is None:
        return FitState()
    split = config.split_name if ratings.communicator.total(len(ratings.test)) else "none"
    facts = [ratings.dataset.fingerprint, split, preset.trainer, preset.settings.model_dump_json(), config.seed]
    facts += [] if config.half_life is None else [config.half_life]
    fit_id = hashlib.sha256(repr(facts).encode()).hexdigest()
    return run.runtime.saved_state(config.resume, fit_id, config.save_every)


def fit_models(run: Run, data: FitData, served: Checkpoint | None, state: FitState) -> Fitted:
    """Fit the rating model, from the saved state or the served model if the options say so, and the relevance head.

    An interrupted fit of the head starts again: it takes seconds.
    """
    preset, seed = run.preset, run.config.seed
    trainer = make_trainer(preset, run.runtime.to_fit(preset, data.training, data.train_test), seed)
    if run.config.warm_start and served is not None:
        warm_start(trainer, served, data.train_test.train)
    run.phase(f"fitting {preset.name}")
    error = None if data.test is None else partial(held_out_rmse, test=data.test)
    history = fit_after_trial(trainer, error, run.report, state.restore(trainer), state.save)
    if preset.relevance is None:
        return Fitted(trainer.model(), history, None, [])
    run.phase("fitting the relevance head")
    log.info(LOSS_OF_HEAD)
    head = RelevanceFit(replace(data.training, weights_N=None), preset.relevance, np.random.default_rng([seed, 2]))
    head_history = fit(head, None, run.report, name="relevance")
    return Fitted(trainer.model(), history, head.model(), head_history)


def make_trainer(preset: Preset, training: TrainingSet, seed: int) -> Trainer[Any]:
    """The preset's trainer, with a random generator of its own."""
    return preset.trainer_class(training, preset.settings, np.random.default_rng([seed, 1]))


def warm_start(trainer: Trainer[Any], served: Checkpoint, train: Interactions) -> None:
    """Start from the served model, if the trainer can."""
    if trainer.warm_start(rows_of(served, train).to(trainer.data.device)):
        log.info("the fit starts from %s", served.version)
    else:
        log.info(
            "the fit starts from random numbers, not from %s: this trainer cannot start from an earlier model",
            served.version,
        )


def rows_of(served: Checkpoint, train: Interactions) -> MatrixFactorization:
    """The served model with the rows of these ratings; an id that it does not know gets its row for unknown ids."""
    users_U = torch.from_numpy(np.append(served.users.rows(train.user_ids), len(served.users)))
    items_I = torch.from_numpy(np.append(served.items.rows(train.item_ids), len(served.items)))
    model = served.model
    return MatrixFactorization(
        model.mean,
        model.user_factors[users_U],
        model.item_factors[items_I],
        model.user_bias[users_U],
        model.item_bias[items_I],
    )


def check_refit(config: JobConfig, test: TestSet | None) -> None:
    """Raise ConfigError if `--refit` is given although no ratings were held out that a second fit could add."""
    if config.refit and (config.test is not None or test is None):
        raise ConfigError("--refit needs --split: it fits again, on the ratings that the split held out too")


def refit(run: Run, result: Result, served: Checkpoint | None) -> Result:
    """The result with a model of all ratings; its figures stay those of the model that was evaluated."""
    run.phase("adding the held-out ratings")
    ratings = result.train_test.merged()
    data, state = prepare(run, ratings), saved_state(run, ratings)
    state.delete()  # the first fit, which is complete, has saved its state at the same place
    fitted = fit_models(run, data, served, state)
    facts = {**result.run, **ratings.totals(), "test_ratings": result.run["test_ratings"]}
    return replace(result, train_test=ratings, fitted=fitted, seen=data.seen, run=facts)
