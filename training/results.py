"""The results of a job: its figures under the names that `--json` prints, and the draft of its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from models.checkpoint.files import ITEM_SCHEMA
from models.checkpoint.manifest import DataRecord, Drift, GateRecord, Manifest, TrainerRecord
from models.checkpoint.writer import Draft
from models.fold_in import FoldInPrior
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from training.communicator import SINGLE_PROCESS, Communicator
from training.config import Preset
from training.data.interactions import Interactions
from training.data.train_test import TrainTest
from training.device import peak_memory_mb
from training.evaluation.evaluate import TestSet
from training.fit.loop import Epoch

METRICS = (
    "rmse",
    "mae",
    "rmse_clipped",
    "user_rmse",
    "bias_rmse",
    "coverage90",
    "nll",
    "ndcg10",
    "recall10",
    "ndcg10_rating",
    "catalogue10",
    "novelty10",
    "diversity10",
)
RUN_FACTS = ("device", "threads", "seed", "users", "items", "train_ratings", "test_ratings")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A rating model and its relevance head, None without one, with the history of each fit."""

    model: MatrixFactorization
    history: Sequence[Epoch]
    head: RelevanceHead | None
    head_history: Sequence[Epoch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A fitted model and its figures, or those of a model that was fitted without the held-out ratings.

    Attributes:
        train_test, seen: the ratings that it was fitted on, as they were split and as those of each user.
        evaluated: the model that `test` and `metrics` are of; after `--refit` it is not `fitted`.
        metrics: those of `METRICS` that were measured.
        run: `seed`, `split`, `device`, `threads` and `half_life` of this run, and `TrainTest.totals`.
        summary: the figures of `training.data.summary`; empty if several ranks have read the ratings.
        described: items with title, year and genres, as far as they are known; None if nothing is known.
        served, drift: the manifest of the served version, and the drift of the ratings since; None without one.
        measured_on: the ratings that `evaluated` was fitted on, and that `test` was held out from.
        baseline: the bias model of those ratings; None without a test part.
    """

    train_test: TrainTest
    preset: Preset
    fitted: Fitted
    evaluated: Fitted
    seen: TrainingRatings
    test: TestSet | None
    metrics: Mapping[str, float | None]
    run: Mapping[str, Any]
    summary: Mapping[str, Any]
    described: pa.Table | None = None
    drift: Drift | None = None
    measured_on: TrainTest
    baseline: MatrixFactorization | None = None
    served: Manifest | None = None

    def figures(self) -> dict[str, Any]:
        """All figures, keyed as `--json` prints them; None if one does not apply."""
        last, head_history = self.fitted.history[-1], self.fitted.head_history
        return {
            "dataset": self.train_test.dataset.name,
            "split": self.run["split"],
            "preset": self.preset.name,
            "trainer": self.preset.trainer,
            **{key: self.run[key] for key in RUN_FACTS},
            "train_loss": last.figures["loss"],
            **dict.fromkeys(METRICS),
            **self.metrics,
            "fit_seconds": last.fit_seconds,
            "relevance_seconds": head_history[-1].fit_seconds if head_history else None,
            "examples_per_second": last.examples_per_second,
            "peak_memory_mb": peak_memory_mb(self.fitted.model.device),
            **self.summary,
            "version": None,
            "checkpoint": None,
        }


@dataclass(frozen=True, slots=True)
class WholeModel:
    """The model of all users as it is published; that of a distributed job is gathered on the first rank.

    `user_ids` stand in the order of the model's rows; `seen` are the training ratings of each user.
    """

    model: MatrixFactorization
    user_ids: pa.StringArray
    seen: TrainingRatings
    prior: FoldInPrior
    head: RelevanceHead | None

    @classmethod
    def of(cls, result: Result) -> WholeModel:
        """The model of a single process, which has all users."""
        model, seen = result.fitted.model, result.seen
        user_ids, prior = result.train_test.train.user_ids, FoldInPrior.learn(model, seen)
        return cls(model, user_ids, seen, prior, result.fitted.head)


def draft(
    result: Result, gate: GateRecord, whole: WholeModel, write_report: Callable[[Result, GateRecord, Path], None]
) -> Draft:
    """The checkpoint to publish, with the report that `write_report` writes into a directory.

    Every rank makes it, and the first one publishes it.
    """
    ratings, figures = result.train_test, result.figures()
    mean, deviation = _moments(ratings)
    return Draft(
        model=whole.model,
        users=pa.table({"id": whole.user_ids}),
        items=catalogue(result.described, ratings.train, ratings.communicator),
        seen=whole.seen,
        prior=whole.prior,
        scale=ratings.scale,
        trainer=TrainerRecord(
            name=result.preset.trainer,
            preset=result.preset.name,
            settings=settings(result.preset) | _weighting(result.run),
            **{key: figures[key] for key in ("seed", "device", "threads", "fit_seconds")},
        ),
        data=DataRecord(
            name=ratings.dataset.name,
            fingerprint=ratings.dataset.fingerprint,
            duplicates=ratings.dataset.duplicates,
            rating_mean=mean,
            rating_deviation=deviation,
            snapshot=ratings.dataset.snapshot,
            drift=result.drift,
            **{key: figures[key] for key in ("split", "train_ratings", "test_ratings")},
        ),
        gate=gate,
        metrics={key: figures[key] for key in ("train_loss", *METRICS)},
        write_report=partial(write_report, result, gate),
        relevance=whole.head,
    )


def _moments(ratings: TrainTest) -> tuple[float, float]:
    """Mean and standard deviation of the training ratings."""
    ratings_N = torch.tensor(ratings.train.ratings_N, dtype=torch.float64)
    mean = float(ratings.communicator.mean(ratings_N))
    return mean, float(ratings.communicator.mean((ratings_N - mean).square()).sqrt())


def settings(preset: Preset) -> dict[str, Any]:
    """The settings of the trainer, and those of the relevance head as `relevance`, None without one."""
    head = None if preset.relevance is None else preset.relevance.model_dump(mode="json")
    return preset.settings.model_dump(mode="json") | {"relevance": head}


def _weighting(run: Mapping[str, Any]) -> dict[str, Any]:
    """The half-life of the ratings in days, if there was one."""
    return {} if run.get("half_life") is None else {"half_life": run["half_life"]}


def catalogue(described: pa.Table | None, train: Interactions, communicator: Communicator = SINGLE_PROCESS) -> pa.Table:
    """What is known about each item, in the order of the model's rows: `ITEM_SCHEMA`, null if nothing is known.

    `described` has the columns id, title, year, genres and labels of some items.
    """
    here_I = np.bincount(train.items_N, weights=train.ratings_N, minlength=train.items)
    sums_I = communicator.sum(torch.from_numpy(here_I)).numpy()
    counts_I = communicator.sum(torch.from_numpy(np.bincount(train.items_N, minlength=train.items))).numpy()
    means_I = sums_I / np.maximum(counts_I, 1)
    columns = {
        "id": train.item_ids,
        "mean_rating": pa.array(means_I, pa.float32(), mask=counts_I == 0),
        "ratings": pa.array(counts_I, pa.int32()),
    }
    if described is not None:
        known = described.take(pc.index_in(train.item_ids, value_set=described["id"].combine_chunks()))
        columns |= {name: known[name] for name in ("title", "year", "genres", "labels")}
    nulls = {field.name: pa.nulls(train.items, field.type) for field in ITEM_SCHEMA}
    return pa.table(nulls | columns).select(ITEM_SCHEMA.names).cast(ITEM_SCHEMA)
