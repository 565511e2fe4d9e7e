"""The facade of the engine: ids in, answers out. It knows neither HTTP nor settings.

Work that takes less time than handing it to another thread is done at once, on the caller's thread; all other work goes
through a batcher to one thread of its own, so the event loop stays free.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from app.engine.answers import SOURCES, ItemDetails, ListQuery, Pair, Pairs, Prediction, Predictions, TopList
from app.engine.batcher import Batcher
from app.engine.errors import DeadlineExceededError
from app.engine.follower import Failure, Follower
from app.engine.hooks import Event, Listed, Listener, Predicted
from app.engine.lists import RecentLists, top_list, top_lists
from app.engine.predictions import predict, predict_pair, predict_together
from app.engine.store import Served, Store
from models import checkpoint
from models.errors import UnknownItemError
from models.manifest import Manifest

# Handing work to a thread and back takes about 100 µs here; 4,000 pairs of 48 factors take 150 µs.
QUICK_PAIRS = 4_000
QUICK_CELLS = 1 << 20  # of one list: 80,000 cells (ml-100k) take 40 µs, a million about 200 µs
PAIRS_PER_BATCH = 100_000
LISTS_PER_BATCH = 64  # more users at once save little: at 32 the product is bound by arithmetic, no longer by memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much work may wait and for how long, and what is kept of it.

    Attributes:
        queued_pairs: predictions that may wait.
        queued_lists: lists that may wait.
        seconds: time of one request.
        recent_lists: how many lists are kept to be answered again.
    """

    queued_pairs: int = 1_000_000
    queued_lists: int = 1_024
    seconds: float = 10.0
    recent_lists: int = 4_096


@dataclass(frozen=True, slots=True)
class _Pairs:
    served: Served
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class _Lists:
    served: Served
    queries: Sequence[ListQuery]


class Engine:
    """Answers from the current checkpoint of a directory.

    Args:
        directory: of the published checkpoints.
        device: where the model lives.
        threads: CPU threads of the model's arithmetic.
        bounds: of what waits.
        listeners: told of each batch and each load.
        pinned: a version to serve whatever CURRENT names.
        remembered: a file in which workers keep which version they serve.
    """

    def __init__(
        self,
        directory: Path,
        device: torch.device,
        threads: int,
        bounds: Bounds = Bounds(),
        listeners: Sequence[Listener] = (),
        pinned: str | None = None,
        remembered: Path | None = None,
    ) -> None:
        self._directory = directory
        self._store = Store(device)
        self._follower = Follower(self._store, directory, pinned, remembered, self._tell)
        self._on_cpu = device.type == "cpu"
        self._listeners = listeners
        self._seconds = bounds.seconds
        self._keep = bounds.recent_lists
        self._recent: tuple[Served | None, RecentLists] = (None, RecentLists(self._keep))
        self._executor = ThreadPoolExecutor(1, "engine", torch.set_num_threads, (threads,))
        self._pairs: Batcher[_Pairs, Predictions] = Batcher(
            "predictions",
            _answer_pairs,
            self._executor,
            max_rows=PAIRS_PER_BATCH,
            max_queued=bounds.queued_pairs,
            seconds=bounds.seconds,
            listeners=listeners,
        )
        self._lists: Batcher[_Lists, list[TopList]] = Batcher(
            "lists",
            _answer_lists,
            self._executor,
            max_rows=LISTS_PER_BATCH,
            max_queued=bounds.queued_lists,
            seconds=bounds.seconds,
            listeners=listeners,
        )

    @property
    def device(self) -> torch.device:
        return self._store.device

    @property
    def manifest(self) -> Manifest:
        """Facts about the model being served. Raises NotReadyError before there is one."""
        return self._store.current.checkpoint.manifest

    @property
    def failure(self) -> Failure | None:
        """Why the version that is wanted is not the one being served; None while it is."""
        return self._follower.failure

    async def load(self) -> None:
        """Load the first model. Raises CheckpointError or OSError."""
        await self._follower.start()

    async def follow(self) -> NoReturn:
        """Serve whatever becomes current, for ever; a version that cannot be served changes nothing."""
        await self._follower.follow()

    async def activate(self, version: str) -> None:
        """Make a version the current one. Raises UnknownVersionError, or ActivationError with nothing changed."""
        await self._follower.activate(version)

    async def published(self) -> list[Manifest]:
        """What is known about each version that is published and can be read, in the order of publication."""
        return await asyncio.to_thread(checkpoint.published, self._directory)

    def quick_pairs(self, pairs: int) -> bool:
        """Whether so many pairs are to be asked of `predict_now`: it takes less time than another thread would."""
        return self._on_cpu and pairs <= QUICK_PAIRS

    def predict_pair_now(self, pair: Pair) -> Prediction:
        """The rating of one pair."""
        answer = predict_pair(self._store.current, pair)
        self._tell(Predicted(answer.source, 1))
        return answer

    async def predict_pair(self, pair: Pair) -> Prediction:
        """As `predict_pair_now`, on the engine's thread. Raises OverloadedError or DeadlineExceededError."""
        answer = await self.predict(Pairs([pair.user], [pair.item]))
        return Prediction(float(answer.ratings_B[0]), SOURCES[answer.sources_B[0]], answer.version)

    def predict_now(self, pairs: Pairs) -> Predictions:
        """Rating of each pair, clipped to the scale."""
        answer = predict(self._store.current, pairs)
        self._tell_predicted(answer)
        return answer

    async def predict(self, pairs: Pairs) -> Predictions:
        """As `predict_now`, on the engine's thread. Raises OverloadedError or DeadlineExceededError."""
        served = self._store.current
        answer = await self._pairs.submit(_Pairs(served, pairs), len(pairs), served)
        self._tell_predicted(answer)
        return answer

    def check_room(self, *, pairs: int = 0, lists: int = 0) -> None:
        """Raise OverloadedError where so much more would be refused: earlier, and for less, than asking for it."""
        if pairs:
            self._pairs.check_room(pairs)
        if lists:
            self._lists.check_room(min(lists, LISTS_PER_BATCH))

    def quick_list(self, query: ListQuery) -> bool:
        """Whether the list is to be asked of `top_now`: it takes less time than another thread would."""
        if self._recent_lists().get(query) is not None:
            return True
        if not self._on_cpu:
            return False
        return self._store.current.cells <= QUICK_CELLS if query.only is None else len(query.only) <= QUICK_PAIRS

    def top_now(self, query: ListQuery) -> TopList:
        """The list of a query. Raises OrderingUnavailableError."""
        recent = self._recent_lists()
        answer = recent.get(query)
        if answer is None:
            answer = top_list(self._store.current, query)
            recent.put(query, answer)
        self._tell(Listed(answer.source, 1))
        return answer

    async def top(self, queries: Sequence[ListQuery]) -> list[TopList]:
        """The lists of some queries, all of one version, on the engine's thread; many are done in several steps.

        Raises OrderingUnavailableError, OverloadedError or DeadlineExceededError.
        """
        served = self._store.current
        for query in queries:
            served.rank_by(query.rank_by)
        answers: list[TopList] = []
        try:
            async with asyncio.timeout(self._seconds):  # of all steps together: the batcher times each
                for at in range(0, len(queries), LISTS_PER_BATCH):
                    part = queries[at : at + LISTS_PER_BATCH]
                    answers += await self._lists.submit(_Lists(served, part), len(part), served)
        except TimeoutError:
            raise DeadlineExceededError(f"no answer within {self._seconds:g} seconds") from None
        if len(queries) == 1 and served is self._recent[0]:
            self._recent[1].put(queries[0], answers[0])
        for source, count in Counter(answer.source for answer in answers).items():
            self._tell(Listed(source, count))
        return answers

    async def item(self, id_: str) -> ItemDetails:
        """What is known about an item. Raises UnknownItemError."""
        return describe(self._store.current, id_)

    def _recent_lists(self) -> RecentLists:
        """Those of the model being served; when that changes, the old ones are forgotten."""
        served = self._store.current
        if self._recent[0] is not served:
            self._recent = (served, RecentLists(self._keep))
        return self._recent[1]

    def _tell_predicted(self, answer: Predictions) -> None:
        for source, count in zip(SOURCES, np.bincount(answer.sources_B, minlength=len(SOURCES)).tolist(), strict=True):
            if count:
                self._tell(Predicted(source, count))

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._follower.close()
        self._executor.shutdown()


def describe(served: Served, id_: str) -> ItemDetails:
    """What is known about an item."""
    row = served.checkpoint.items.row(id_)
    if row == len(served.checkpoint.items):
        raise UnknownItemError(id_)
    (record,) = served.checkpoint.catalogue.slice(row, 1).to_pylist()
    return ItemDetails(**record, version=served.version)


def _answer_pairs(jobs: Sequence[_Pairs]) -> list[Predictions]:
    """All pairs of a batch together; the jobs share their snapshot."""
    return predict_together(jobs[0].served, [job.pairs for job in jobs])


def _answer_lists(jobs: Sequence[_Lists]) -> list[list[TopList]]:
    """All lists of a batch together; the jobs share their snapshot."""
    lists = iter(top_lists(jobs[0].served, [query for job in jobs for query in job.queries]))
    return [[next(lists) for _ in job.queries] for job in jobs]
