"""Cross-validation: as many fits as folds, each measured on its fold, and the mean and spread of each figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from training.config import JobConfig
from training.data.summary import summary
from training.data.train_test import read_folds
from training.fit.loop import Epoch
from training.job import begin, fit_and_measure
from training.results import METRICS

COUNTS = ("users", "items", "train_ratings", "test_ratings")
TIMES = ("fit_seconds", "relevance_seconds", "examples_per_second", "peak_memory_mb")
AVERAGED = ("train_loss", *METRICS, *TIMES)


def cross_validate(
    config: JobConfig, report: Callable[[Epoch], None], phase: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The figures of `config.folds` fits, keyed as `--json` prints them: see `averaged`.

    Raises a TrainingError or DeviceUnavailableError for errors that the user can correct.
    """
    number = config.folds or 2
    run = begin(config, report, phase)
    attributes = run.preset.trainer_class.uses_attributes
    figures = []
    for fold, ratings in enumerate(read_folds(config, number, phase, with_attributes=attributes), 1):
        phase(f"fold {fold} of {number}")
        figures.append(fit_and_measure(run, ratings, summary(ratings.dataset)).figures())
    return averaged(figures)


def averaged(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over the folds, counts rounded, and three keys more.

    `folds` is their number, `spread` the standard deviation of each mean's figures (with n − 1), and `of_folds` the
    figures of each fold. A figure that does not apply to every fold has no mean.
    """
    known = [name for name in AVERAGED if all(fold[name] is not None for fold in figures)]
    columns = {name: [fold[name] for fold in figures] for name in (*known, *COUNTS)}
    return {
        **figures[0],
        **dict.fromkeys(AVERAGED),
        **{name: fmean(columns[name]) for name in known},
        **{name: round(fmean(columns[name])) for name in COUNTS},
        "folds": len(figures),
        "spread": {name: stdev(columns[name]) for name in known},
        "of_folds": [{name: fold[name] for name in (*COUNTS, *AVERAGED)} for fold in figures],
    }
