"""The offline job as a recipe: read → split → fit → evaluate → judge → publish. Each step is a module of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models.checkpoint.manifest import GateRecord
from models.checkpoint.reader import Checkpoint
from models.errors import CheckpointError, CheckpointNotFoundError, RemoteError
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import load
from models.registry.remote import RemoteRegistry
from models.stored_items import DESCRIBED
from models.urls import is_url
from training.config import JobConfig, Preset, load_preset
from training.data.dataset import Dataset
from training.data.described import with_stored
from training.data.split import parse_split
from training.data.summary import summary
from training.data.train_test import TrainTest
from training.device import use_threads
from training.errors import ConfigError
from training.evaluation.evaluate import TestSet, evaluate, held_out_rmse
from training.evaluation.quality_gate import Candidate, judge, measure_drift
from training.evaluation.replay import replay
from training.fit.fit_state import FitState
from training.fit.loop import Epoch
from training.fit.trainers.bias import bias_model
from training.fitting import FitData, Run, check_refit, fit_models, prepare, refit, saved_state
from training.report import write_report
from training.results import Fitted, Result, draft
from training.runtime import Runtime

log = logging.getLogger(__name__)
NO_FIGURES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        figures: keyed as `--json` prints them.
        refusal: the reason if the gate refused the model.
        result: what was fitted and measured.
        gate: the verdict of the quality gate.
    """

    figures: Mapping[str, Any]
    refusal: str | None
    result: Result
    gate: GateRecord


def run(
    config: JobConfig,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None] = lambda _: None,
    runtime: Runtime | None = None,
) -> Outcome:
    """Do the job. `runtime` is that of one of several processes that do it together; None for a single process.

    `report` is called after each epoch, and `phase` with the name of each step as it begins. Raises a TrainingError or
    DeviceUnavailableError for errors that the user can correct, and a PublicationError if the checkpoint cannot be
    written. In either case nothing is published.
    """
    check_replay(config)
    job = begin(config, report, phase, runtime)
    data = prepare(job, job.runtime.read(config, job.preset, phase))
    check_refit(config, data.test)
    facts = summary(data.train_test.dataset) if job.runtime.communicator.size == 1 else {}
    served = None if config.out is None else load_served(config.out)
    check_measured(config, data.test, served)
    state = saved_state(job, data.train_test)
    fitted = fit_models(job, data, served, state)
    result = measure(job, data, fitted, served, facts)
    outcome = unjudged(result) if config.out is None else release(job, config.out, result, served)
    if config.replay:
        outcome = replace(outcome, figures={**outcome.figures, "replay": replayed(job, result)})
    state.delete()
    return outcome


def unjudged(result: Result) -> Outcome:
    """The outcome where nothing is published."""
    return Outcome(result.figures(), None, result, GateRecord(verdict="not measured"))


def check_replay(config: JobConfig) -> None:
    """Raise ConfigError for a replay of ratings that are not all later than the training ratings."""
    if config.replay and config.test is None and parse_split(config.split).kind != "time":
        raise ConfigError(
            f"--replay goes through ratings that came after the fit, and --split {config.split} holds others out: "
            "use --split time:0.1, or --test FILE with later ratings"
        )


def replayed(run: Run, result: Result) -> dict[str, Any]:
    """The figures of `--replay`."""
    ratings = result.measured_on
    if ratings.held_out is None or len(ratings.held_out) == 0:
        raise ConfigError("--replay: no ratings are held out")
    run.phase(f"replaying {len(ratings.held_out):,} ratings")
    return replay(result.evaluated.model, ratings.train, ratings.held_out, ratings.scale).figures()


def begin(
    config: JobConfig,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None],
    runtime: Runtime | None = None,
    preset: Preset | None = None,
) -> Run:
    """The preset, by default that of the configuration, the device and the threads of a run.

    Raises ConfigError or DeviceUnavailableError.
    """
    runtime, preset = runtime or Runtime(), preset or load_preset(config.preset, config.overrides)
    device, threads = runtime.choose_device(config.device), use_threads(config.threads)
    log.info("fitting on %s with %d CPU threads", device, threads)
    return Run(config, preset, runtime, device, threads, report, phase)


def fit_and_measure(run: Run, ratings: TrainTest, summary: Mapping[str, Any] = NO_FIGURES) -> Result:
    """Fit the preset to the training part and measure it on the test part. Nothing is published."""
    data = prepare(run, ratings)
    return measure(run, data, fit_models(run, data, None, FitState()), None, summary)


def load_served(directory: Path) -> Checkpoint | None:
    """The current checkpoint; None if there is none, or if it cannot be read: any model is better than that."""
    try:
        return load(directory)
    except CheckpointNotFoundError:
        return None
    except CheckpointError as error:
        log.warning("the current checkpoint cannot be read, so the new model is not compared with it: %s", error)
        return None


def check_measured(config: JobConfig, test: TestSet | None, served: Checkpoint | None) -> None:
    """Raise ConfigError where a model that nobody measures would be served in place of one that was measured."""
    if test is not None or served is None or served.manifest.gate.verdict == "not measured":
        return
    if config.activate and not config.force:
        raise ConfigError(
            f"the served version {served.version} was measured, and this fit holds no ratings out to be measured by: "
            "use --split (with --refit the published model has all ratings), --no-activate or --force"
        )


def measure(run: Run, data: FitData, fitted: Fitted, served: Checkpoint | None, summary: Mapping[str, Any]) -> Result:
    """Evaluate the model on the held-out ratings, if there are any, and collect the figures of the fit."""
    ratings, test = data.train_test, data.test
    metrics: dict[str, float | None] = {}
    baseline = None
    if test is not None:
        run.phase(f"evaluating on {len(test.ratings_N):,} ratings")
        baseline = bias_model(data.training)
        metrics = evaluate(fitted.model, test, data.seen.to(run.device), fitted.head)
        metrics["bias_rmse"] = held_out_rmse(baseline, test)
    config = run.config
    facts = {"seed": config.seed, "split": config.split_name, "half_life": config.half_life}
    facts |= {"device": str(run.device), "threads": run.threads}
    return Result(
        train_test=ratings,
        preset=run.preset,
        fitted=fitted,
        evaluated=fitted,
        seen=data.seen,
        test=test,
        metrics=metrics,
        run=facts | ratings.totals(),
        summary=summary,
        described=item_details(ratings.dataset, served),
        drift=None if served is None else measure_drift(ratings.train, served, ratings.communicator),
        measured_on=ratings,
        baseline=baseline,
        served=None if served is None else served.manifest,
    )


def item_details(dataset: Dataset, served: Checkpoint | None) -> pa.Table | None:
    """The descriptions of items from the source; if it has none, those of the served version; None if nothing is known.

    What a ratings store says of an item counts instead.
    """
    items = dataset.items
    if items is None and served is not None:
        known = [pc.is_valid(served.catalogue[name]) for name in DESCRIBED]
        items = served.catalogue.filter(reduce(pc.or_, known))
    described = with_stored(items, dataset.stored_items)
    return described if len(described) else None


def release(run: Run, out: Path, result: Result, served: Checkpoint | None) -> Outcome:
    """Judge the model. Unless it is refused, publish it, or with `--refit` a model of all ratings."""
    candidate = None
    if result.test is not None and result.baseline is not None:
        candidate = Candidate(result.evaluated.model, result.baseline, result.test, result.measured_on.test)
    verdict = run.runtime.communicator.agreed(judge(candidate, served, run.config.tolerance))
    refused = verdict.verdict == "refused"
    if refused and not run.config.force:
        return Outcome(result.figures(), "; ".join(verdict.reasons), result, verdict)
    if run.config.refit:
        result = refit(run, result, served)
    return publish(run, out, result, verdict.model_copy(update={"forced": refused}))


def publish(run: Run, out: Path, result: Result, verdict: GateRecord) -> Outcome:
    """Publish the model in `out`, and from there in the remote registry if one is given."""
    config, place = run.config, str(out)
    run.phase(f"publishing to {out}")
    make_draft = partial(draft, result, verdict, write_report=write_report)
    version = run.runtime.publish(out, result, make_draft, activate=config.activate)
    if config.remote is not None:
        if run.runtime.communicator.first:
            config.remote.add(out / version, current=config.activate)
        place = config.remote.name
    figures = result.figures() | {"version": version, "checkpoint": f"{place}/{version}"}
    return Outcome(figures, None, result, verdict)


@contextmanager
def destination(out: str | None) -> Iterator[tuple[Path | None, RemoteRegistry | None]]:
    """The directory to publish in, and the remote registry to copy the version to, if `out` is a URL.

    The current version behind a URL is copied into that directory first: the gate compares with it, and a fit may start
    from it. Raises RemoteError for a registry that cannot be used.
    """
    if out is None or not is_url(out):
        yield None if out is None else Path(out), None
        return
    with TemporaryDirectory(prefix="ratecast-") as folder:
        directory, remote = Path(folder), RemoteRegistry(out)
        try:
            CheckpointSync(remote, directory).provide(remote.current())
        except RemoteError:
            raise
        except CheckpointNotFoundError:
            pass  # the first version
        except CheckpointError as error:
            log.warning("the current checkpoint cannot be copied, so the new model is not compared with it: %s", error)
        yield directory, remote
