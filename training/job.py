"""The offline job as a recipe: read → split → fit → evaluate → publish. Each step is a module of its own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from models.checkpoint.manifest import GateRecord
from models.checkpoint.reader import Checkpoint
from models.mf import MatrixFactorization
from models.registry.publication import publish
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from training.communicator import ALONE, Communicator, joined
from training.config import JobConfig, Preset, load_preset
from training.data.interactions import Interactions
from training.data.train_test import TrainTest, read
from training.device import available_memory, choose_device, use_threads
from training.errors import ConfigError
from training.evaluation import drift
from training.evaluation.evaluate import TestSet, evaluate, make_test_set, test_rmse
from training.evaluation.quality_gate import Candidate, judge, served
from training.fit.loop import Epoch, fit
from training.fit.relevance import RelevanceFit
from training.fit.resume import FitState
from training.fit.trainer import Trainer, TrainingSet
from training.launch import ranks_here
from training.report import write_report
from training.results import AsItIs, Fitted, Result, draft

if TYPE_CHECKING:
    from training.distributed.state import DistributedFitState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its figures, keyed as `--json` prints them, and why the gate refused the model if it did."""

    figures: Mapping[str, Any]
    refusal: str | None


def run(config: JobConfig, report: Callable[[Epoch], None], phase: Callable[[str], None] = lambda _: None) -> Outcome:
    """Do the job, alone or as one of the ranks that torchrun has started.

    `report` is called after each epoch, `phase` with what is done next.

    Raises a TrainingError for anything the user can mend, a PublicationError if the checkpoint cannot be written; in
    either case nothing is published.
    """
    preset = load_preset(config.preset, config.overrides)
    with joined(config.device, config.item_bytes) as (ranks, device):
        return run_on(ranks, replace(config, device=device), preset, report, phase)


def run_on(
    ranks: Communicator,
    config: JobConfig,
    preset: Preset,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None],
) -> Outcome:
    """The job as one rank does it."""
    device, threads = choose_device(config.device), use_threads(config.threads)
    log.info("fitting on %s with %d CPU threads%s", device, threads, "" if ranks is ALONE else f", {ranks.size} ranks")
    parts = read_parts(config, preset, ranks, phase)
    check_memory(preset, parts, device)
    test = make_test_set(parts.train, parts.test, config.relevant, device, ranks)
    before = None if config.out is None else served(config.out)
    if config.refit and (config.test is not None or test is None):
        raise ConfigError("--refit goes with --split: it puts back what the split held out")
    bookmark = keep(config, preset, parts)
    fitted = fit_all(config, preset, parts, test, device, report, phase, before, bookmark)
    seen = seen_items(parts)
    if test is None:
        metrics, candidate, baseline = {}, None, None
    else:
        phase(f"evaluating on {len(test.ratings_N):,} ratings")
        baseline = fit_baseline(parts, config.seed, device)
        metrics = evaluate(fitted.model, test, seen.to(device), fitted.head)
        metrics |= {"bias_rmse": test_rmse(baseline, test)}
        candidate = Candidate(fitted.model, baseline, test, parts.test)
    run_facts = {"seed": config.seed, "split": config.split_name, "device": str(device), "threads": threads}
    drifted = None if before is None else drift.measure(parts.train, before, ranks)
    described = parts.dataset.items
    if described is None and before is not None:  # a store has ratings alone
        described = described_by(before)
    result = Result(
        parts=parts,
        preset=preset,
        fitted=fitted,
        evaluated=fitted,
        seen=seen,
        test=test,
        metrics=metrics,
        run=run_facts | parts.totals(),
        described=described,
        drift=drifted,
        measured_on=parts,
        baseline=baseline,
        served=None if before is None else before.manifest,
    )
    outcome = finish(config, result, candidate, device, report, phase, bookmark)
    if bookmark is not None:
        bookmark.forget()
    if ranks is not ALONE:
        log.info("this rank has sent %d bytes to the others", ranks.sent_bytes)
    return outcome


def finish(
    config: JobConfig,
    result: Result,
    candidate: Candidate | None,
    device: torch.device,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None],
    bookmark: FitState | DistributedFitState | None,
) -> Outcome:
    """Judge the model, and publish it or one of all ratings, where there is a directory to publish to."""
    if config.out is None:
        return Outcome(result.figures(), None)
    verdict = result.parts.ranks.agreed(judge(candidate, config.out, config.tolerance))
    refused = verdict.verdict == "refused"
    if refused and not config.force:
        return Outcome(result.figures(), "; ".join(verdict.reasons))
    if config.refit:
        phase("putting back the held-out ratings")
        if bookmark is not None:
            bookmark.forget()
        parts, before = result.parts.undivided(), served(config.out)
        refitted = fit_all(
            config, result.preset, parts, None, device, report, phase, before, keep(config, result.preset, parts)
        )
        run_facts = {**result.run, **parts.totals(), "test_ratings": result.run["test_ratings"]}
        result = replace(result, parts=parts, fitted=refitted, seen=seen_items(parts), run=run_facts)
    phase(f"publishing to {config.out}")
    return offer(config, config.out, result, verdict.model_copy(update={"forced": refused}))


def read_parts(config: JobConfig, preset: Preset, ranks: Communicator, phase: Callable[[str], None]) -> TrainTest:
    """The ratings of this rank. Raises ConfigError for what cannot be spread over ranks."""
    if ranks is ALONE:
        return read(config, phase, with_attributes=preset.settings.uses_attributes)
    from training.distributed.reading import read_share  # noqa: PLC0415 - only several ranks need it

    if not preset.trainer_class.spreads or preset.settings.uses_attributes:
        raise ConfigError(f"the preset {preset.name} cannot be fitted under torchrun")
    if config.refit or config.warm_start:
        raise ConfigError("--refit and --warm-start do not go with torchrun")
    phase("reading the ratings")
    return read_share(config, ranks)


def keep(config: JobConfig, preset: Preset, parts: TrainTest) -> FitState | DistributedFitState | None:
    """Where the fit is saved, None where it is not to be."""
    if config.resume is None:
        return None
    fit_id = identity(config, preset, parts)
    if parts.ranks is ALONE:
        return FitState(config.resume, fit_id, config.save_every)
    from training.distributed.state import DistributedFitState  # noqa: PLC0415 - only several ranks need it

    return DistributedFitState(config.resume, fit_id, parts.ranks, config.save_every)


def described_by(before: Checkpoint) -> pa.Table | None:
    """The items of which an earlier version knows more than the ratings; None where there are none."""
    known = [pc.is_valid(before.catalogue[name]) for name in ("title", "year", "genres")]
    described = before.catalogue.filter(pc.or_(pc.or_(known[0], known[1]), known[2]))
    return described if len(described) else None


def seen_items(parts: TrainTest) -> TrainingRatings:
    """The training ratings of each user."""
    train = parts.train
    return TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, train.users)


def fit_all(
    config: JobConfig,
    preset: Preset,
    parts: TrainTest,
    test: TestSet | None,
    device: torch.device,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None],
    before: Checkpoint | None,
    bookmark: FitState | DistributedFitState | None,
) -> Fitted:
    """Fit the rating model and the relevance head; what was interrupted goes on where it was."""
    trainer = make_trainer(preset, parts, config.seed, device)
    if config.warm_start and before is not None:
        warm = trainer.warm_start(rows_of(before, parts.train).to(device))
        log.info("starting from %s" if warm else "not starting from %s: the trainer cannot", before.version)
    phase(f"fitting {preset.name}")
    model, history = fit_model(trainer, test, report, bookmark)
    if preset.relevance is not None:
        phase("fitting the relevance head")
    head, head_history = fit_head(preset, parts, config.seed, device, report)
    return Fitted(model, history, head, head_history)


def rows_of(before: Checkpoint, train: Interactions) -> MatrixFactorization:
    """The tables of an earlier model with the rows of these ratings, those of unknown ids where it has none."""
    users_U = torch.from_numpy(np.append(before.users.rows(train.user_ids), len(before.users)))
    items_I = torch.from_numpy(np.append(before.items.rows(train.item_ids), len(before.items)))
    model = before.model
    return MatrixFactorization(
        model.mean,
        model.user_factors[users_U],
        model.item_factors[items_I],
        model.user_bias[users_U],
        model.item_bias[items_I],
    )


def fit_model(
    trainer: Trainer[Any],
    test: TestSet | None,
    report: Callable[[Epoch], None],
    bookmark: FitState | DistributedFitState | None,
) -> tuple[MatrixFactorization, list[Epoch]]:
    """Fit the rating model, going on from the bookmark where an earlier fit was interrupted."""
    error = None if test is None else partial(test_rmse, test=test)
    if bookmark is None:
        history = fit(trainer, error, report)
    else:
        history = fit(trainer, error, report, bookmark.restore(trainer), bookmark.save)
    return trainer.model(), history


def fit_head(
    preset: Preset, parts: TrainTest, seed: int, device: torch.device, report: Callable[[Epoch], None]
) -> tuple[RelevanceHead | None, list[Epoch]]:
    """Fit the preset's relevance head, where it has one. An interrupted fit starts anew: it takes seconds."""
    if preset.relevance is None:
        return None, []
    head = RelevanceFit(training_set(parts, device), preset.relevance, np.random.default_rng([seed, 2]))
    history = fit(head, None, report, name="relevance")
    return head.model(), history


def identity(config: JobConfig, preset: Preset, parts: TrainTest) -> str:
    """What makes two fits the same: data, split, trainer, settings and seed."""
    split = config.split_name if parts.ranks.total(len(parts.test)) else "none"
    facts = (parts.dataset.fingerprint, split, preset.trainer, preset.settings.model_dump_json())
    return hashlib.sha256(repr((*facts, config.seed)).encode()).hexdigest()


def offer(config: JobConfig, out: Path, result: Result, verdict: GateRecord) -> Outcome:
    """Publish the model: the first of the ranks does."""
    ranks, place = result.parts.ranks, str(out)
    if ranks is ALONE:
        version = publish(out, draft(result, verdict, AsItIs(), write_report), activate=config.activate).version
    else:
        from training.distributed.publication import publish_from  # noqa: PLC0415 - only several ranks need it

        drafted = partial(draft, result, verdict, write_report=write_report)
        version = publish_from(ranks, out, drafted, activate=config.activate)
    if config.remote is not None:
        if ranks.first:
            config.remote.add(out / version, current=config.activate)
        place = config.remote.name
    return Outcome(result.figures() | {"version": version, "checkpoint": f"{place}/{version}"}, None)


def check_memory(preset: Preset, parts: TrainTest, device: torch.device) -> None:
    """Raise ConfigError if a fit would not fit into the memory that is free, before it has begun.

    The rating model and the head are fitted one after the other.
    """
    shape = (parts.train.users, parts.train.items, len(parts.train))
    needed = preset.trainer_class.memory_bytes(*shape, preset.settings)
    if preset.relevance is not None:
        needed = max(needed, RelevanceFit.memory_bytes(*shape, preset.relevance))
    available = available_memory(device) // (ranks_here() if device.type == "cpu" else 1)
    if needed > available:
        raise ConfigError(
            f"this fit needs about {needed / 1e9:.1f} GB and {available / 1e9:.1f} GB are free on {device}: "
            "take fewer factors or fewer ratings"
        )


def make_trainer(preset: Preset, parts: TrainTest, seed: int, device: torch.device) -> Trainer[Any]:
    """The preset's trainer on the training part, with a random generator of its own."""
    return preset.trainer_class(training_set(parts, device), preset.settings, np.random.default_rng([seed, 1]))


def training_set(parts: TrainTest, device: torch.device) -> TrainingSet:
    """The training part as the fits are given it."""
    train = parts.train
    return TrainingSet(
        users=train.users,
        items=train.items,
        users_N=torch.tensor(train.users_N, device=device),  # copies: arrays that Arrow owns are read-only
        items_N=torch.tensor(train.items_N, device=device),
        ratings_N=torch.tensor(train.ratings_N, device=device),
        timestamps_N=on_device(train.timestamps_N, device),
        user_attributes_UA=on_device(parts.user_attributes_UA, device),
        item_attributes_IA=on_device(parts.item_attributes_IA, device),
        ranks=parts.ranks,
        users_here=parts.users_here,
    )


def on_device(values: npt.NDArray[Any] | None, device: torch.device) -> Tensor | None:
    return None if values is None else torch.tensor(values, device=device)


def fit_baseline(parts: TrainTest, seed: int, device: torch.device) -> MatrixFactorization:
    """The model of the preset `bias` for the training part."""
    model, _ = fit_model(make_trainer(load_preset("bias"), parts, seed, device), None, lambda _: None, None)
    return model
