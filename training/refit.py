"""`--refit`: once the quality gate has passed a model, one of all ratings is published in its place."""

from __future__ import annotations

from dataclasses import replace

from models.checkpoint.reader import Checkpoint
from training.config import JobConfig
from training.errors import ConfigError
from training.evaluation.evaluate import TestSet
from training.fitting import Run, fit_models, prepare, saved_state
from training.results import Result


def check_refit(config: JobConfig, test: TestSet | None) -> None:
    """Raise ConfigError where no ratings were held out that a second fit could add."""
    if config.refit and (config.test is not None or test is None):
        raise ConfigError("--refit needs --split: it fits again, on the ratings that the split held out too")


def refit(run: Run, result: Result, served: Checkpoint | None) -> Result:
    """The result with a model of all ratings; its figures stay those of the model that was evaluated."""
    run.phase("adding the held-out ratings")
    ratings = result.train_test.merged()
    data, state = prepare(run, ratings), saved_state(run, ratings)
    state.delete()  # at the same place is that of the first fit, which is complete
    fitted = fit_models(run, data, served, state)
    facts = {**result.run, **ratings.totals(), "test_ratings": result.run["test_ratings"]}
    return replace(result, train_test=ratings, fitted=fitted, seen=data.seen, run=facts)
