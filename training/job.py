"""The offline job as a recipe: read → split → fit → evaluate → publish. Each step is a module of its own."""

from __future__ import annotations

import hashlib
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
from training.device import choose_device, use_threads
from training.errors import DataError
from training.evaluate import evaluate, make_test_set, test_rmse
from training.gate import DEFAULT_TOLERANCE, Candidate, judge
from training.loop import Epoch, fit
from training.results import Parts, Result, draft
from training.resume import Bookmark
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
        tolerance: how much worse than the served model a published one may be, relative, of the RMSE.
        force: publish even what the quality gate refuses.
        resume: keeps the state of the fit; an interrupted one goes on from it. None keeps nothing.
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
    tolerance: float = DEFAULT_TOLERANCE
    force: bool = False
    resume: Path | None = None

    @property
    def split_name(self) -> str:
        return self.split if self.test is None else f"test:{Path(self.test).name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its figures, keyed as `--json` prints them, and why the gate refused the model if it did."""

    figures: Mapping[str, Any]
    refusal: str | None


def run(config: JobConfig, report: Callable[[Epoch], None]) -> Outcome:
    """Do the job. `report` is called after each epoch.

    Raises a TrainingError for anything the user can mend, a PublicationError if the checkpoint cannot be written; in
    either case nothing is published.
    """
    preset = load_preset(config.preset, config.overrides)
    device, threads = choose_device(config.device), use_threads(config.threads)
    log.info("fitting on %s with %d CPU threads", device, threads)
    parts = read(config)
    test = make_test_set(parts.train, parts.test, config.relevant, device)
    trainer = make_trainer(preset, parts.train, config.seed, device)
    error = None if test is None else partial(test_rmse, test=test)
    history = fit_resumably(trainer, error, report, config.resume, identity(config, preset, parts))
    model = trainer.model()
    seen = SeenItems.from_pairs(parts.train.users_N, parts.train.items_N, parts.train.users)
    if test is None:
        metrics, candidate = {}, None
    else:
        baseline = fit_baseline(parts.train, config.seed, device)
        metrics = evaluate(model, test, seen.to(device)) | {"bias_rmse": test_rmse(baseline, test)}
        candidate = Candidate(model, baseline, test, parts.test)
    run_facts = {"seed": config.seed, "split": config.split_name, "device": str(device), "threads": threads}
    result = Result(parts, preset, model, seen, test, history, metrics, run_facts)
    return Outcome(result.figures(), None) if config.out is None else offer(config, config.out, result, candidate)


def fit_resumably(
    trainer: Trainer[Any],
    error: Callable[[MatrixFactorization], float] | None,
    report: Callable[[Epoch], None],
    file: Path | None,
    identity: str,
) -> list[Epoch]:
    """Fit, going on from `file` where an earlier fit with the same identity was interrupted."""
    if file is None:
        return fit(trainer, error, report)
    bookmark = Bookmark(file, identity)
    history = fit(trainer, error, report, bookmark.restore(trainer), bookmark.save)
    file.unlink(missing_ok=True)
    return history


def identity(config: JobConfig, preset: Preset, parts: Parts) -> str:
    """What makes two fits the same: data, split, trainer, settings and seed."""
    facts = (parts.dataset.fingerprint, config.split_name, preset.trainer, preset.settings.model_dump_json())
    return hashlib.sha256(repr((*facts, config.seed)).encode()).hexdigest()


def offer(config: JobConfig, out: Path, result: Result, candidate: Candidate | None) -> Outcome:
    """Publish the model if the gate lets it pass, or `force` says so."""
    verdict = judge(candidate, out, config.tolerance)
    refused = verdict.verdict == "refused"
    if refused and not config.force:
        return Outcome(result.figures(), "; ".join(verdict.reasons))
    manifest = publish(out, draft(result, verdict.model_copy(update={"forced": refused})))
    return Outcome(result.figures() | {"version": manifest.version, "checkpoint": str(out / manifest.version)}, None)


def read(config: JobConfig) -> Parts:
    """Read the ratings and divide them. The split draws from `default_rng(seed)` and nothing else does."""
    rng = np.random.default_rng(config.seed)
    dataset = load(config.data, table=config.table, columns=config.columns, rng=rng, cache=config.cache)
    ratings = dataset.ratings
    if config.test is not None:
        table = config.table if "://" in config.test else None
        test = load(config.test, table=table, columns=config.columns, rng=rng, cache=config.cache, held_out=True)
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
        users_N=torch.tensor(train.users_N, device=device),  # copies: arrays that Arrow owns are read-only
        items_N=torch.tensor(train.items_N, device=device),
        ratings_N=torch.tensor(train.ratings_N, device=device),
        timestamps_N=None if train.timestamps_N is None else torch.tensor(train.timestamps_N, device=device),
    )
    return preset.trainer_class(data, preset.settings, np.random.default_rng([seed, 1]))


def fit_baseline(train: Interactions, seed: int, device: torch.device) -> MatrixFactorization:
    """The model of the preset `bias` for the training part."""
    trainer = make_trainer(load_preset("bias"), train, seed, device)
    fit(trainer, None, lambda _: None)
    return trainer.model()
