"""The loop that runs every fit: timing, figures, held-out error, the check for divergence. It knows no algorithm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from training.errors import DivergedError
from training.fit.trainer import Trainer, TrainingSet

CURVE_POINTS = 30  # evaluations of a long fit; each makes the model, which for `bayes` takes about as long as a sweep
ModelT = TypeVar("ModelT")
ModelT_co = TypeVar("ModelT_co", covariant=True)


class Fit(Protocol[ModelT_co]):
    """A fit that the loop can run: a trainer, or the fit of a relevance head. See `training.fit.trainer.Trainer`."""

    data: TrainingSet
    epochs: int

    def epoch(self) -> Mapping[str, Tensor]: ...

    def model(self) -> ModelT_co: ...


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures after one of the `epochs` of a fit. `name` is the name of an epoch in logs.

    Attributes:
        figures: as reported by the trainer, always with `loss`.
        test_rmse: error on the held-out ratings; None without any, and between the points of the curve.
        fit_seconds: time spent fitting so far, without evaluation.
        examples_per_second: training ratings processed per second of fitting so far.
    """

    number: int
    epochs: int
    figures: dict[str, float]
    test_rmse: float | None
    fit_seconds: float
    examples_per_second: float
    name: str = "epoch"

    @property
    def seconds_left(self) -> float:
        return self.fit_seconds / self.number * (self.epochs - self.number)


def fit(
    trainer: Fit[ModelT],
    test_rmse: Callable[[ModelT], float] | None,
    report: Callable[[Epoch], None],
    history: Sequence[Epoch] = (),
    save: Callable[[Any, Sequence[Epoch]], None] | None = None,
    name: str = "epoch",
    seconds: float = 0.0,
) -> list[Epoch]:
    """Run all epochs and return the history. The fitted model is `trainer.model()`.

    Args:
        trainer: new, or restored to the end of `history`, the epochs of an interrupted fit.
        test_rmse: the error of a model on held-out ratings; None without any.
        report, save: called after each epoch, `save` with the trainer and the history.
        seconds: what a new fit has already taken.

    Raises DivergedError as soon as the training loss is not finite.
    """
    history, device = list(history), trainer.data.device
    fit_seconds = history[-1].fit_seconds if history else seconds
    ratings = trainer.data.total()
    while len(history) < trainer.epochs:
        began, number = time.perf_counter(), len(history) + 1
        figures = trainer.epoch()
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # so that the time is that of the finished work
        fit_seconds += time.perf_counter() - began
        epoch = Epoch(
            number=number,
            epochs=trainer.epochs,
            figures={name: float(value) for name, value in figures.items()},
            test_rmse=test_rmse(trainer.model()) if test_rmse and _shown(number, trainer.epochs) else None,
            fit_seconds=fit_seconds,
            examples_per_second=ratings * number / fit_seconds,
            name=name,
        )
        loss = epoch.figures["loss"]
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss is {loss} after epoch {number}: try a smaller step")
        history.append(epoch)
        report(epoch)
        if save is not None:
            save(trainer, history)
    return history


def fit_after_trial(
    trainer: Trainer[Any],
    test_rmse: Callable[[MatrixFactorization], float] | None,
    report: Callable[[Epoch], None],
    history: Sequence[Epoch] = (),
    save: Callable[[Any, Sequence[Epoch]], None] | None = None,
) -> list[Epoch]:
    """As `fit`, of a trainer that learns from its trial first, if it has one and is new.

    An interrupted trial starts again: it is a fraction of the fit.
    """
    trial, seconds = None if history else trainer.trial(), 0.0
    if trial is not None:
        began = time.perf_counter()
        fit(trial, None, report, name="trial")
        trainer.learn(trial)
        seconds = time.perf_counter() - began
    return fit(trainer, test_rmse, report, history, save, seconds=seconds)


def _shown(number: int, epochs: int) -> bool:
    """Whether an epoch is a point of the learning curve. The last one is."""
    return number == epochs or number % math.ceil(epochs / CURVE_POINTS) == 0
