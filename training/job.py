"""The offline job as a recipe: read → split → fit → evaluate → publish. Each step is a module of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.mf import MatrixFactorization
from models.publication import publish
from models.seen import SeenItems
from training.config import Preset, load_preset
from training.data.dataset import load
from training.data.interactions import Interactions
from training.data.split import parse_split, split
from training.device import choose_device, peak_memory_mb, use_threads
from training.errors import DataError
from training.evaluate import TestSet, evaluate, make_test_set, test_rmse
from training.loop import Epoch, fit
from training.results import METRICS, Parts, Result, draft
from training.trainer import Trainer, TrainingSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """What one run of the job is asked to do.

    Attributes:
        data, table, columns: the source of the ratings, as `training.data.dataset.load` takes them.
        test: a source whose ratings are the test part; `split` is then not used.
        split: one of `last-out`, `random:F`, `time:F`, `none`.
        preset, overrides: the trainer and its settings.
        relevant: ratings at or above it count as relevant; None for three quarters up the scale.
        seed: fixes every random choice.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads, None for all cores.
        cache: where fetched data sets are kept.
        out: the checkpoint directory to publish to; None publishes nothing.
    """

    data: str
    preset: str
    cache: Path
    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    test: str | None = None
    split: str = "none"
    overrides: Sequence[str] = ()
    relevant: float | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    out: Path | None = None


def run(config: JobConfig, report: Callable[[Epoch], None]) -> dict[str, Any]:
    """Do the job and return its figures, keyed as `--json` prints them. `report` is called after each epoch.

    Raises a TrainingError for anything the user can mend, a PublicationError if the checkpoint cannot be written; in
    either case nothing is published.
    """
    preset = load_preset(config.preset, config.overrides)
    device, threads = choose_device(config.device), use_threads(config.threads)
    log.info("fitting on %s with %d CPU threads", device, threads)
    parts = read(config)
    test = make_test_set(parts.train, parts.test, config.relevant, device)
    trainer = make_trainer(preset, parts.train, config.seed, device)
    history = fit(trainer, None if test is None else partial(test_rmse, test=test), report)
    model = trainer.model()
    seen = SeenItems.from_pairs(parts.train.users_N, parts.train.items_N, parts.train.users)
    figures = {
        "dataset": parts.dataset.name,
        "split": config.split if config.test is None else f"test:{Path(config.test).name}",
        "preset": preset.name,
        "trainer": preset.trainer,
        "device": str(device),
        "threads": threads,
        "seed": config.seed,
        "users": parts.train.users,
        "items": parts.train.items,
        "train_ratings": len(parts.train),
        "test_ratings": len(parts.test),
        "train_loss": history[-1].figures["loss"],
        **dict.fromkeys(METRICS),
        **measure(model, seen, parts.train, test, config.seed),
        "fit_seconds": history[-1].fit_seconds,
        "examples_per_second": history[-1].examples_per_second,
        "peak_memory_mb": peak_memory_mb(device),
        "version": None,
        "checkpoint": None,
    }
    if config.out is not None:
        manifest = publish(config.out, draft(Result(parts, preset, model, seen, test, history, figures)))
        figures |= {"version": manifest.version, "checkpoint": str(config.out / manifest.version)}
    return figures


def read(config: JobConfig) -> Parts:
    """Read the ratings and divide them. The split draws from `default_rng(seed)` and nothing else does."""
    rng = np.random.default_rng(config.seed)
    dataset = load(config.data, table=config.table, columns=config.columns, rng=rng, cache=config.cache)
    ratings = dataset.ratings
    if config.test is not None:
        columns = config.columns
        test = load(config.test, table=config.table, columns=columns, rng=rng, cache=config.cache, held_out=True)
        return Parts(dataset, ratings, test.ratings.aligned(ratings.user_ids, ratings.item_ids))
    train_rows, test_rows = split(ratings, parse_split(config.split), np.random.default_rng(config.seed))
    if len(train_rows) == 0:
        raise DataError(f"the split {config.split} leaves no ratings to train on")
    train = ratings.take(train_rows).compacted()
    return Parts(dataset, train, ratings.take(test_rows).aligned(train.user_ids, train.item_ids))


def make_trainer(preset: Preset, train: Interactions, seed: int, device: torch.device) -> Trainer[Any]:
    """The preset's trainer on the training part, with a random generator of its own."""
    data = TrainingSet(
        users=train.users,
        items=train.items,
        users_N=torch.from_numpy(train.users_N).to(device),
        items_N=torch.from_numpy(train.items_N).to(device),
        ratings_N=torch.from_numpy(train.ratings_N).to(device),
        timestamps_N=None if train.timestamps_N is None else torch.from_numpy(train.timestamps_N).to(device),
    )
    return preset.trainer_class(data, preset.settings, np.random.default_rng([seed, 1]))


def measure(
    model: MatrixFactorization, seen: SeenItems, train: Interactions, test: TestSet | None, seed: int
) -> dict[str, float | None]:
    """Figures on the test part, with the RMSE of the `bias` preset beside them; empty where there is no test part."""
    if test is None:
        return {}
    baseline = make_trainer(load_preset("bias"), train, seed, model.device)
    fit(baseline, None, lambda _: None)
    return evaluate(model, test, seen.to(model.device)) | {"bias_rmse": test_rmse(baseline.model(), test)}
