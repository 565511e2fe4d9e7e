"""Metrics for Prometheus. It listens to the engine and is told of each answer.

With several workers the library keeps the numbers in files that all of them map (PROMETHEUS_MULTIPROC_DIR, set by
`app.server.launcher` before anything is imported), and each worker answers for all.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter as Counts
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from starlette.types import Scope

from app.engine.events import Batch, Event, Listed, Loaded, LoadFailed, LoadFailureEnded, Predicted
from app.engine.types import Source
from app.ratings.records import Committed
from models.checkpoint.manifest import DataRecord

ROUTE = "route_template"  # in the scope of a request that no route of FastAPI answers
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = CONTENT_TYPE_LATEST
disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, that nobody asks for
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CREATED = "ratecast_model_created_timestamp_seconds"
FLUSH_SECONDS = 0.25
MOST_PENDING = 512
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 1_000, 10_000, 100_000)


class Telemetry:
    """The metrics of one service. `docs/operations.md` lists them.

    Attributes:
        under_way: requests that are being answered now. Whoever lets them in counts them.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ratecast_requests", "Answers by status.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "ratecast_request_seconds",
            "From the request's first byte to the answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._predictions = Counter(
            "ratecast_predictions", "Predictions by what they rest on.", ("source",), registry=self._registry
        )
        self._lists = Counter("ratecast_lists", "Lists by what they rest on.", ("source",), registry=self._registry)
        self._batch_rows = Histogram(
            "ratecast_batch_rows", "Rows computed together.", ("kind",), buckets=ROWS, registry=self._registry
        )
        self._queue = Histogram(
            "ratecast_queue_seconds",
            "How long work waited for the device.",
            ("kind",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._compute = Histogram(
            "ratecast_compute_seconds",
            "How long a batch was computed.",
            ("kind",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._in_progress = Gauge(
            "ratecast_requests_under_way",
            "Requests that are being answered.",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._starts = Counter("ratecast_worker_starts", "Workers that were started.", registry=self._registry)
        self._waiting = Gauge(
            "ratecast_waiting_rows", "Rows that wait.", ("kind",), multiprocess_mode="livesum", registry=self._registry
        )
        self._rejections = Counter(
            "ratecast_rejections", "Requests answered with an error, by cause.", ("cause",), registry=self._registry
        )
        self._loads = Counter(
            "ratecast_model_loads",
            "Models loaded, and versions that could not be.",
            ("result",),
            registry=self._registry,
        )
        self._failing = Gauge(
            "ratecast_model_load_failing",
            "Whether the version that is wanted is not the one being served.",
            multiprocess_mode="livemax",
            registry=self._registry,
        )
        self._data = Gauge(
            "ratecast_model_data",
            "The training ratings of the model being served, and how they differ from those of the model before.",
            ("figure",),
            multiprocess_mode="livemostrecent",
            registry=self._registry,
        )
        self._changes = Counter(
            "ratecast_store_changes", "Changes of ratings that were stored.", registry=self._registry
        )
        self._commits = Histogram(
            "ratecast_store_commit_seconds",
            "From the beginning of a transaction to its end.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._created = Gauge(
            CREATED,
            "When the model being served was published, in seconds since 1970.",
            ("version",),
            multiprocess_mode="livemax",
            registry=self._registry,
        )
        self._request_counter = cache(self._requests.labels)
        self._request_timer = cache(self._seconds.labels)
        self._prediction_counter = cache(self._predictions.labels)
        self._list_counter = cache(self._lists.labels)
        self._rejection_counter = cache(self._rejections.labels)
        self._answered: list[tuple[str, str, int, float, str | None]] = []
        self._version: str | None = None
        self._predicted: Counts[Source] = Counts()
        self.under_way = 0

    def request(self, route: str, method: str, status: int, seconds: float, cause: str | None) -> None:
        """Count an answer. `route` is a template, never a path with an id in it; `cause` the kind of problem it is."""
        self._answered.append((route, method, status, seconds, cause))
        if len(self._answered) == MOST_PENDING:
            self.flush()

    def listen(self, event: Event) -> None:
        """Take note of what the engine did."""
        match event:
            case Predicted():
                self._predicted[event.source] += event.number
            case Listed():
                self._list_counter(event.source).inc(event.number)
            case Batch():
                self._count_batch(event)
            case Loaded():
                self._loads.labels("ok").inc()
                if self._version is not None:
                    self._created.labels(self._version).set(0)  # of what is shared nothing can be removed: see `render`
                self._version = event.version
                self._created.labels(event.version).set(event.created_at.timestamp())
                self._note_data(event.data)
            case LoadFailed():
                self._loads.labels("failed").inc()
                self._failing.set(1)
            case LoadFailureEnded():
                self._failing.set(0)

    def committed(self, transaction: Committed) -> None:
        """Count what was stored."""
        self._changes.inc(transaction.changes)
        self._commits.observe(transaction.seconds)

    def _note_data(self, data: DataRecord) -> None:
        drift = data.drift
        figures = {"rating_mean": data.rating_mean, "rating_deviation": data.rating_deviation}
        figures |= {"train_ratings": data.train_ratings}
        if drift is not None:
            figures |= {"rating_mean_change": data.rating_mean - drift.rating_mean, "coverage": drift.coverage}
            figures |= {"known_users": drift.known_users, "known_items": drift.known_items}
        for figure, value in figures.items():
            self._data.labels(figure).set(value)

    def flush(self) -> None:
        """Write down what was counted since the last time. One by one, between answers, that takes twice as long.

        On the event loop's thread, as everything that counts.
        """
        self._in_progress.set(self.under_way)
        for route, method, status, seconds, cause in self._answered:
            self._request_counter(route, method, status).inc()
            self._request_timer(route).observe(seconds)
            if cause is not None:
                self._rejection_counter(cause).inc()
        self._answered.clear()
        for source, number in self._predicted.items():
            self._prediction_counter(source).inc(number)
        self._predicted.clear()

    async def keep_flushing(self) -> None:
        """From its start on a worker flushes now and then: another one's answer is not much older than its own."""
        self._starts.inc()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def render(self) -> bytes:
        """All metrics of all workers, as text, of what each has flushed. It may be done on any thread."""
        if DIRECTORY not in os.environ:
            return generate_latest(_OnlyServed(self._registry))
        _forget_the_dead(Path(os.environ[DIRECTORY]))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(_OnlyServed(registry))

    def _count_batch(self, batch: Batch) -> None:
        self._batch_rows.labels(batch.kind).observe(batch.rows)
        self._compute.labels(batch.kind).observe(batch.compute_seconds)
        self._waiting.labels(batch.kind).set(batch.waiting_rows)
        for seconds in batch.queue_seconds:
            self._queue.labels(batch.kind).observe(seconds)


def route_label(scope: Scope) -> str:
    """The template of a request's route, so that no id becomes a label."""
    return scope[ROUTE] if ROUTE in scope else getattr(scope.get("route"), "path", "none")


class _OnlyServed(CollectorRegistry):
    """A registry without the versions that nobody serves any more: their time of publication was set to 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._all = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._all.collect():
            if family.name == CREATED:
                family.samples = [sample for sample in family.samples if sample.value]
            yield family


def _forget_the_dead(folder: Path) -> None:
    """Leave out what waited in workers that ended: a worker that dies is replaced, and its last gauges would stay."""
    for pid in {int(path.stem.rsplit("_", 1)[1]) for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another worker was quicker
                multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
