"""Metrics for Prometheus, made from the events of the engine and from each answer.

With several workers prometheus_client keeps the numbers in files that all of them map (PROMETHEUS_MULTIPROC_DIR, set by
`app.server.launcher` before anything is imported), and each worker answers with the numbers of all.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections import Counter as Counts
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from app.engine.documents import LiveFigures
from app.engine.events import (
    Batch,
    Event,
    Listed,
    LiveError,
    Loaded,
    LoadFailed,
    LoadFailureEnded,
    Predicted,
    SplitChanged,
)
from app.engine.types import Source
from app.observability.shared_files import install
from app.options import METRICS_FOLDER
from app.ratings.records import Committed
from models.checkpoint.manifest import DataRecord
from models.registry.split import Split

install()
disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each counter, which nobody needs
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CREATED = "ratecast_model_created_timestamp_seconds"
LIVE_ERROR, SPLIT = "ratecast_live_error", "ratecast_split_share"
FLUSH_SECONDS = 0.25
READS, READ_PAUSE = 20, 0.01  # tries to read the files of all workers, seconds between two
MOST_PENDING = 512
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 1_000, 10_000, 100_000)


class Telemetry:
    """The metrics of one service. `docs/operations.md` lists them.

    Attributes:
        under_way: requests in progress. The layer that admits them counts them.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        gauge = partial(Gauge, registry=self._registry)
        seconds = partial(Histogram, registry=self._registry, buckets=SECONDS)
        rows = partial(Histogram, registry=self._registry, buckets=ROWS)
        requests = counter("ratecast_requests", "Answers by status.", ("route", "method", "status"))
        durations = seconds(
            "ratecast_request_seconds", "Seconds from the request's headers to the answer's last byte.", ("route",)
        )
        predictions = counter("ratecast_predictions", "Predictions by source.", ("source",))
        lists = counter("ratecast_lists", "Lists by source.", ("source",))
        self._batch_rows = rows("ratecast_batch_rows", "Pairs or lists in a batch.", ("kind",))
        self._queue = seconds("ratecast_queue_seconds", "Seconds for which work waited.", ("kind",))
        self._compute = seconds("ratecast_compute_seconds", "Seconds that a batch took.", ("kind",))
        self._in_progress = gauge("ratecast_requests_under_way", "Requests in progress.", multiprocess_mode="livesum")
        self._starts = counter("ratecast_worker_starts", "Workers started.")
        self._waiting = gauge(
            "ratecast_waiting_rows", "Pairs or lists waiting.", ("kind",), multiprocess_mode="livesum"
        )
        rejections = counter("ratecast_rejections", "Requests answered with an error, by cause.", ("cause",))
        self._loads = counter("ratecast_model_loads", "Versions that were or could not be loaded.", ("result",))
        self._failing = gauge(
            "ratecast_model_load_failing",
            "1 while the service cannot load the version that it should serve.",
            multiprocess_mode="livemax",
        )
        self._data = gauge(
            "ratecast_model_data",
            "The training ratings of the model being served, and how they differ from those of the previous model.",
            ("figure",),
            multiprocess_mode="livemostrecent",
        )
        self._live_error = gauge(
            LIVE_ERROR,
            "Error of the served models on the ratings of the last seven days.",
            ("version", "source", "figure"),
            multiprocess_mode="livemostrecent",
        )
        self._split_seconds = seconds(
            "ratecast_split_request_seconds", "Seconds of answers for users, while there is a split.", ("version",)
        )
        self._split_share = gauge(
            SPLIT,
            "Share of the users that a version beside the current one answers.",
            ("version",),
            multiprocess_mode="livemostrecent",
        )
        self._changes = counter("ratecast_store_changes", "Stored changes of ratings.")
        self._commits = seconds("ratecast_store_commit_seconds", "Seconds that a transaction took.")
        self._created = gauge(
            CREATED,
            "Time of publication of the model being served, in seconds since 1970.",
            ("version",),
            multiprocess_mode="livemax",
        )
        self._request_counter, self._request_timer = cache(requests.labels), cache(durations.labels)
        self._prediction_counter, self._list_counter = cache(predictions.labels), cache(lists.labels)
        self._rejection_counter = cache(rejections.labels)
        self._answered: list[tuple[str, str, int, float, str | None, str | None]] = []
        self._split: str | None = None
        self._version: str | None = None
        self._predicted: Counts[Source] = Counts()
        self.under_way = 0

    def request(
        self, route: str, method: str, status: int, seconds: float, cause: str | None, version: str | None = None
    ) -> None:
        """Count an answer. `route` is a template, never a path with an id; `cause` is the kind of problem or None.

        `version` answered for a user while there was a split; None for any other answer.
        """
        self._answered.append((route, method, status, seconds, cause, version))
        if len(self._answered) == MOST_PENDING:
            self.flush()

    def listen(self, event: Event) -> None:
        """Count an event of the engine."""
        match event:
            case Predicted():
                self._predicted[event.source] += event.number
            case Listed():
                self._list_counter(event.source).inc(event.number)
            case LiveError():
                self._note_live_error(event.figures)
            case SplitChanged(split):
                self._note_split(split)
            case Batch():
                self._count_batch(event)
            case Loaded():
                self._note_loaded(event)
            case LoadFailed():
                self._loads.labels("failed").inc()
                self._failing.set(1)
            case LoadFailureEnded():
                self._failing.set(0)

    def committed(self, transaction: Committed) -> None:
        """Count a transaction of the ratings store."""
        self._changes.inc(transaction.changes)
        self._commits.observe(transaction.seconds)

    def _note_live_error(self, figures: LiveFigures) -> None:
        for figure, value in figures.model_dump(exclude={"version", "source"}, exclude_none=True).items():
            self._live_error.labels(figures.version, figures.source, figure).set(value)

    def _note_split(self, split: Split | None) -> None:
        if self._split is not None:
            self._split_share.labels(self._split).set(0)  # as for `_created`
        self._split = None if split is None else split.version
        if split is not None:
            self._split_share.labels(split.version).set(split.share)

    def _note_loaded(self, event: Loaded) -> None:
        self._loads.labels("ok").inc()
        if self._version is not None:
            self._created.labels(self._version).set(0)  # a shared series cannot be removed: see `render`
        self._version = event.version
        self._created.labels(event.version).set(event.created_at.timestamp())
        self._note_data(event.data)

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
        """Write what was counted since the last time. Writing each number by itself would take twice as long.

        Call it on the thread of the event loop, as all methods that count.
        """
        self._in_progress.set(self.under_way)
        for route, method, status, seconds, cause, version in self._answered:
            self._request_counter(route, method, status).inc()
            self._request_timer(route).observe(seconds)
            if cause is not None:
                self._rejection_counter(cause).inc()
            if version is not None:
                self._split_seconds.labels(version).observe(seconds)
        self._answered.clear()
        for source, number in self._predicted.items():
            self._prediction_counter(source).inc(number)
        self._predicted.clear()

    async def keep_flushing(self) -> None:
        """Flush now and then, so that the numbers in another worker's answer are not much older than its own."""
        self._starts.inc()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def render(self) -> bytes:
        """The metrics of all workers as text, as far as each has flushed them. May be called on any thread."""
        if METRICS_FOLDER not in os.environ:
            return generate_latest(_OnlyServed(self._registry))
        _forget_the_dead(Path(os.environ[METRICS_FOLDER]))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        for _ in range(READS - 1):
            with suppress(struct.error, RuntimeError, OSError):  # another worker is making one of its files, or longer
                return generate_latest(_OnlyServed(registry))
            time.sleep(READ_PAUSE)
        return generate_latest(_OnlyServed(registry))

    def _count_batch(self, batch: Batch) -> None:
        self._batch_rows.labels(batch.kind).observe(batch.rows)
        self._compute.labels(batch.kind).observe(batch.compute_seconds)
        self._waiting.labels(batch.kind).set(batch.waiting_rows)
        for seconds in batch.queue_seconds:
            self._queue.labels(batch.kind).observe(seconds)


class _OnlyServed(CollectorRegistry):
    """A registry without versions that are no longer served: their time of publication, or share, was set to 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._all = registry

    def collect(self) -> Iterator[Metric]:
        families = [*self._all.collect()]
        for family in families:
            if family.name in (CREATED, SPLIT):
                family.samples = [sample for sample in family.samples if sample.value]
        of_versions = [sample for family in families if family.name in (CREATED, SPLIT) for sample in family.samples]
        served = {sample.labels["version"] for sample in of_versions}
        for family in families:
            if family.name == LIVE_ERROR:
                family.samples = [sample for sample in family.samples if sample.labels["version"] in served]
        yield from families


def _forget_the_dead(folder: Path) -> None:
    """Remove the gauges of workers that have ended, such as their waiting rows: they would otherwise stay."""
    for pid in {int(path.stem.rsplit("_", 1)[1]) for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another worker has removed it
                multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
