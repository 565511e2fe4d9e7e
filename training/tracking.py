"""`fit --track`: the settings, figures, curve and report of a fit, logged as a run of MLflow.

MLflow is imported only where a run is to be logged. Its own telemetry is off.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

from models.checkpoint.files import HELD_OUT
from models.urls import explained, without_secrets
from training.errors import ConfigError
from training.job import Outcome
from training.report import write_report
from training.results import settings

EXPERIMENT = "ratecast"  # unless MLFLOW_EXPERIMENT_NAME names another one
DEFAULTS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
PARAMETERS = ("dataset", "split", "preset", "trainer", "device", "threads", "seed")  # figures that are no measurements
MOST_IN_BATCH = 100  # parameters; of metrics MLflow takes more

log = logging.getLogger(__name__)


@contextmanager
def tracked(place: str | None, name: str) -> Iterator[Callable[[Outcome], None]]:
    """A run called `name` at `place`, `mlflow` or `mlflow:URI`. Gives what logs the outcome of the fit in the block.

    An error of the block ends the run as failed. Raises ConfigError if MLflow is missing or cannot be used; what goes
    wrong after the fit is a warning, since the model is published by then.
    """
    if place is None:
        yield lambda _: None
        return
    client, uri = _client(place)
    try:
        run = _begin(client, name)
    except Exception as error:
        raise ConfigError(
            f"--track: MLflow at {without_secrets(uri)} cannot be used: {explained(error, uri)}"
        ) from error
    log.info("tracked by MLflow as run %s", run)
    try:
        yield partial(_guarded, uri, partial(_log, client, run))
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        _guarded(uri, partial(_fail, client, run, status="KILLED" if stopped else "FAILED"), error)
        raise


def _client(place: str) -> tuple[Any, str]:
    kind, _, uri = place.partition(":")
    if kind != "mlflow":
        raise ConfigError(f"--track takes `mlflow` or `mlflow:URI`, not {kind!r}")
    for variable, value in DEFAULTS.items():
        os.environ.setdefault(variable, value)
    try:
        from mlflow import MlflowClient, get_tracking_uri
    except ModuleNotFoundError as error:
        raise ConfigError(f"--track needs {error.name}: pip install 'ratecast[track]', or pip install mlflow") from None
    uri = uri or get_tracking_uri()
    try:
        return MlflowClient(tracking_uri=uri), uri
    except Exception as error:
        raise ConfigError(f"--track: {explained(error, uri)}") from error


def _begin(client: Any, name: str) -> str:
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    known = client.get_experiment_by_name(experiment)
    number = client.create_experiment(experiment) if known is None else known.experiment_id
    return str(client.create_run(number, run_name=name).info.run_id)


def _guarded(uri: str, work: Callable[[Any], None], given: Any) -> None:
    try:
        work(given)
    except Exception as error:
        log.warning("not everything of the fit was logged: %s", explained(error, uri))


def _fail(client: Any, run: str, error: BaseException, *, status: str) -> None:
    client.set_tag(run, "ratecast.outcome", "failed")
    client.set_tag(run, "ratecast.reason", str(error) or type(error).__name__)
    client.set_terminated(run, status)


def _log(client: Any, run: str, outcome: Outcome) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now, figures, result = int(1e3 * time.time()), outcome.figures, outcome.result
    given = {name: figures[name] for name in PARAMETERS} | _flat(settings(result.preset))
    parameters = [Param(name, str(value)) for name, value in given.items()]
    for first in range(0, len(parameters), MOST_IN_BATCH):
        client.log_batch(run, params=parameters[first : first + MOST_IN_BATCH])
    measured = {name: value for name, value in figures.items() if name not in PARAMETERS and _is_number(value)}
    client.log_batch(run, metrics=[Metric(name, float(value), now, 0) for name, value in measured.items()])
    for epoch in result.evaluated.history:
        curve = {f"curve.{name}": value for name, value in epoch.figures.items()} | {"curve.test_rmse": epoch.test_rmse}
        points = [Metric(name, float(value), now, epoch.number) for name, value in curve.items() if _is_number(value)]
        client.log_batch(run, metrics=points)
    tags = {"version": figures["version"], "gate": outcome.gate.verdict, "reason": outcome.refusal}
    tags["outcome"] = "published" if outcome.refusal is None else "refused"
    client.log_batch(run, tags=[RunTag(f"ratecast.{name}", str(text)) for name, text in tags.items() if text])
    with TemporaryDirectory(prefix="ratecast-") as folder:
        write_report(result, outcome.gate, Path(folder))
        (Path(folder) / HELD_OUT).unlink(missing_ok=True)  # ratings of users stay where they are
        client.log_artifacts(run, folder, "report")
    client.set_terminated(run)


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by their names as `--set` takes them: `relevance.factors`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
