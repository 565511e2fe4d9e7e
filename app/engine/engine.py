"""The facade of the engine: ids in, answers out. It knows neither HTTP nor settings.

Work that takes less time than handing it to another thread is done at once, on the caller's thread; all other work goes
through a batcher to one thread of its own, so the event loop stays free.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch

from app.engine.batcher import Batcher
from app.engine.errors import DeadlineExceededError, UnknownVersionError
from app.engine.events import Event, Listed, Listener, Predicted
from app.engine.explanations import explain, item_row, similar
from app.engine.fresh_users import UNSETTLED, FoldedUser, Fresh, FreshUsers, Rated, Unsettled, fold
from app.engine.lists import RecentLists, top_list, top_lists
from app.engine.model_watcher import Failure, ModelWatcher
from app.engine.predictions import predict_folded, predict_pair, predict_rows, predict_together, rows
from app.engine.search import find_items, find_users
from app.engine.serving_model import Served, Store
from app.engine.types import (
    SOURCES,
    Choice,
    Explanation,
    FoundItems,
    FoundUsers,
    Genres,
    InlineRatings,
    ItemDetails,
    ListQuery,
    Pair,
    Pairs,
    Prediction,
    Predictions,
    SimilarItems,
    TopList,
    UserRating,
    UserRatings,
)
from app.ratings.errors import NoStoreError
from app.ratings.store import RatingsStore, Stored
from models.checkpoint.manifest import Manifest
from models.errors import CheckpointNotFoundError, UnknownItemError, UnknownUserError
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import published, read_report
from models.sharding import DevicePlacement

T = TypeVar("T")

# Handing work to a thread and back takes about 100 µs here; 4,000 pairs of 48 factors take 150 µs.
QUICK_PAIRS = 4_000
QUICK_CELLS = 1 << 20  # of one list: 80,000 cells (ml-100k) take 40 µs, a million about 200 µs
PAIRS_PER_BATCH = 100_000
QUICK_ROWS = 2_000  # of a table that is searched: 60 µs
LISTS_PER_BATCH = 64  # more users at once save little: at 32 the product is bound by arithmetic, no longer by memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much work may wait and for how long, and what is kept of it.

    Attributes:
        queued_pairs: predictions that may wait.
        queued_lists: lists that may wait.
        seconds: time of one request.
        recent_lists: how many lists are kept to be answered again.
        recent_users: how many users with fresh ratings are kept.
    """

    queued_pairs: int = 1_000_000
    queued_lists: int = 1_024
    seconds: float = 10.0
    recent_lists: int = 4_096
    recent_users: int = 16_384


@dataclass(frozen=True, slots=True)
class _Pairs:
    served: Served
    pairs: Pairs
    fresh: Sequence[Fresh]


@dataclass(frozen=True, slots=True)
class _Lists:
    served: Served
    queries: Sequence[ListQuery]
    people: Sequence[FoldedUser | None]


class Engine:
    """Answers from the current checkpoint of a directory.

    Args:
        directory: of the published checkpoints.
        place: where the model lives.
        threads: CPU threads of the model's arithmetic.
        bounds: of what waits.
        listeners: told of each batch and each load.
        pinned: a version to serve whatever CURRENT names.
        remembered: a file in which workers keep which version they serve.
        ratings: what users have rated since; None where the service keeps no ratings.
        mirror: what the directory is a copy of; None where versions are published in the directory itself.
    """

    def __init__(
        self,
        directory: Path,
        place: DevicePlacement,
        threads: int,
        bounds: Bounds = Bounds(),
        listeners: Sequence[Listener] = (),
        pinned: str | None = None,
        remembered: Path | None = None,
        ratings: RatingsStore | None = None,
        mirror: CheckpointSync | None = None,
    ) -> None:
        self._directory = directory
        self._mirror = mirror
        self._store = Store(place)
        changes = None if ratings is None else ratings.changes
        self._follower = ModelWatcher(self._store, directory, pinned, remembered, self._tell, changes, mirror)
        self._ratings = ratings
        self._people = FreshUsers(ratings, bounds.recent_users)
        self._on_cpu = place.is_cpu_alone
        self._listeners = listeners
        self._seconds = bounds.seconds
        self._keep = bounds.recent_lists
        self._recent: tuple[Served | None, RecentLists] = (None, RecentLists(self._keep))
        self._executor = ThreadPoolExecutor(1, "engine", torch.set_num_threads, (threads,))
        self._searcher = ThreadPoolExecutor(1, "search")  # of its own: predictions do not wait for searches
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
    def place(self) -> DevicePlacement:
        return self._store.place

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
        if self._mirror is not None:
            return await asyncio.to_thread(self._mirror.published)
        return await asyncio.to_thread(published, self._directory)

    def quick_pairs(self, pairs: int) -> bool:
        """Whether so many pairs are to be asked of `predict_now`: it takes less time than another thread would."""
        return self._on_cpu and pairs <= QUICK_PAIRS

    def predict_pair_now(self, pair: Pair) -> Prediction | None:
        """The rating of one pair. None where the user's ratings must be read first: `predict_pair` does that."""
        served = self._store.current
        person = self._people.find(served, pair.user, served.checkpoint.users.row(pair.user))
        if person is UNSETTLED:
            return None
        answer = predict_pair(served, pair, person)
        self._tell(Predicted(answer.source, 1))
        return answer

    async def predict_pair(self, pair: Pair) -> Prediction:
        """As `predict_pair_now`, whatever it takes. Raises OverloadedError or DeadlineExceededError."""
        answer = await self.predict(Pairs([pair.user], [pair.item]))
        return Prediction(float(answer.ratings_B[0]), SOURCES[answer.sources_B[0]], answer.version)

    def predict_now(self, pairs: Pairs) -> Predictions | None:
        """Rating of each pair, clipped to the scale. None where ratings must be read first: `predict` does that."""
        served = self._store.current
        users_B, items_B = rows(served, pairs)
        fresh = self._people.find_all(served, pairs.users, users_B)
        if fresh is UNSETTLED:
            return None
        answer = predict_rows(served, users_B, items_B, fresh)
        self._tell_predicted(answer)
        return answer

    async def predict(self, pairs: Pairs) -> Predictions:
        """As `predict_now`, whatever it takes. Raises OverloadedError or DeadlineExceededError."""
        served = self._store.current
        fresh = await self._people.settle(served, pairs.users, served.checkpoint.users.rows(pairs.users))
        answer = await self._pairs.submit(_Pairs(served, pairs, fresh), len(pairs), served)
        self._tell_predicted(answer)
        return answer

    def check_room(self, *, pairs: int = 0, lists: int = 0) -> None:
        """Raise OverloadedError where so much more would be refused: earlier, and for less, than asking for it."""
        if pairs:
            self._pairs.check_room(pairs)
        if lists:
            self._lists.check_room(min(lists, LISTS_PER_BATCH))

    def top_now(self, query: ListQuery) -> TopList | None:
        """The list of a query. None where it takes more time than another thread would: `top` takes it.

        Raises OrderingUnavailableError.
        """
        served = self._store.current
        person = self._person_now(served, query)
        if person is UNSETTLED:
            return None
        recent = self._recent_lists()
        answer = recent.get(query) if person is None else None
        if answer is None:
            if not self._quick_list(served, query):
                return None
            answer = top_list(served, query, person)
            if person is None:
                recent.put(query, answer)
        self._tell(Listed(answer.source, 1))
        return answer

    async def top(self, queries: Sequence[ListQuery]) -> list[TopList]:
        """The lists of some queries, all of one version, whatever they take; many are done in several steps.

        Raises OrderingUnavailableError, OverloadedError or DeadlineExceededError.
        """
        served = self._store.current
        for query in queries:
            served.rank_by(query.rank_by)
        answers: list[TopList] = []
        try:
            async with asyncio.timeout(self._seconds):  # of all steps together: the batcher times each
                people = await self._people_of(served, queries)
                for at in range(0, len(queries), LISTS_PER_BATCH):
                    step = slice(at, at + LISTS_PER_BATCH)
                    work = _Lists(served, queries[step], people[step])
                    answers += await self._lists.submit(work, len(work.queries), served)
        except TimeoutError:
            raise DeadlineExceededError(f"no answer within {self._seconds:g} seconds") from None
        if len(queries) == 1 and people[0] is None and served is self._recent[0]:
            self._recent[1].put(queries[0], answers[0])
        self._tell_listed(answers)
        return answers

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return self._store.current.scorer.scale

    async def predict_inline(self, inline: InlineRatings, items: Sequence[str]) -> tuple[Predictions, int]:
        """What somebody who gave these ratings would give some items, and how many of the ratings that rests on.

        Nothing is kept. Raises DeadlineExceededError.
        """
        served = self._store.current

        def work() -> tuple[Predictions, int]:
            person = fold(served, _rated_inline(served, inline))
            return predict_folded(served, person, items), len(person.rated_M)

        answer, used = await self._at_once_or_beside(work, quick=len(inline.items) + len(items) <= QUICK_PAIRS)
        self._tell_predicted(answer)
        return answer, used

    async def top_inline(self, inline: InlineRatings, query: ListQuery) -> tuple[TopList, int]:
        """The list of somebody who gave these ratings, and how many of them it rests on. Nothing is kept.

        Raises OrderingUnavailableError or DeadlineExceededError.
        """
        served = self._store.current
        served.rank_by(query.rank_by)

        def work() -> tuple[TopList, int]:
            person = fold(served, _rated_inline(served, inline))
            return top_list(served, query, person), len(person.rated_M)

        quick = len(inline.items) <= QUICK_PAIRS and self._quick_list(served, query)
        answer, used = await self._at_once_or_beside(work, quick=quick)
        self._tell(Listed(answer.source, 1))
        return answer, used

    async def explain(self, user: str, item: str, n: int) -> Explanation:
        """Why a user is predicted what they are for an item. Raises UnknownItemError, UnknownUserError."""
        served = self._store.current
        item_row(served, item)
        rated = self._people.rated(served, user, await self._stored(user))
        if len(rated.rows_M) == 0:
            raise UnknownUserError(user)
        return await self._at_once_or_beside(
            lambda: explain(served, user, item, rated, n), quick=len(rated.rows_M) <= QUICK_PAIRS
        )

    async def similar(self, item: str, n: int) -> SimilarItems:
        """The items nearest to another one. Raises UnknownItemError."""
        served = self._store.current
        return await self._at_once_or_beside(
            lambda: similar(served, item, n), quick=self._on_cpu and served.cells <= QUICK_CELLS
        )

    async def ratings_of(self, user: str) -> UserRatings:
        """All ratings that a user has, in the order of the items' ids. Raises StoreUnavailableError."""
        served = self._store.current
        stored = await self._stored(user)
        titles, items = served.title, served.checkpoint.items
        found = {}
        if self._people.trained_on_others(served, stored):
            rows_T, values_T = served.rated(served.checkpoint.users.row(user))
            for row, value in zip(rows_T.tolist(), values_T.tolist(), strict=True):
                title = titles(row)
                if title.id not in stored.deleted:
                    found[title.id] = UserRating(title.id, value, None, title.title)
        for rating in stored.ratings:
            row = items.row(rating.item)
            title_text = titles(row).title if row < len(items) else None
            found[rating.item] = UserRating(rating.item, rating.rating, rating.timestamp, title_text)
        return UserRatings(user, [found[item] for item in sorted(found)], served.version)

    async def row_of(self, user: str) -> dict[str, Any] | None:
        """What the model learned of a user: bias, factors, relevance_factors. None where it has no row to be used."""
        served = self._store.current
        row = served.checkpoint.users.row(user)
        if row == len(served.checkpoint.users) or not self._people.may_use_row(served, await self._stored(user)):
            return None
        model, head = served.checkpoint.model, served.checkpoint.relevance
        return {
            "bias": float(model.user_bias[row]),
            "factors": model.user_factors[row].tolist(),
            "relevance_factors": None if head is None else head.user_factors[row].tolist(),
        }

    def knows_item(self, item: str) -> bool:
        """Whether the model being served has an item."""
        return item in self._store.current.checkpoint.items

    @property
    def store(self) -> RatingsStore:
        """Where ratings are kept. Raises NoStoreError where they are not."""
        if self._ratings is None:
            raise NoStoreError("this service keeps no ratings")
        return self._ratings

    async def _stored(self, user: str) -> Stored:
        return Stored() if self._ratings is None else (await self._ratings.of([user]))[user]

    def _quick_list(self, served: Served, query: ListQuery) -> bool:
        """Whether finding a list takes less time than another thread would."""
        if not self._on_cpu:
            return False
        return served.cells <= QUICK_CELLS if query.only is None else len(query.only) <= QUICK_PAIRS

    def _person_now(self, served: Served, query: ListQuery) -> FoldedUser | Unsettled | None:
        if query.user is None:
            return None
        return self._people.find(served, query.user, served.checkpoint.users.row(query.user))

    async def _people_of(self, served: Served, queries: Sequence[ListQuery]) -> list[FoldedUser | None]:
        users = [query.user or "" for query in queries]
        people: list[FoldedUser | None] = [None] * len(queries)
        for positions_M, person in await self._people.settle(served, users, served.checkpoint.users.rows(users)):
            for position in positions_M.tolist():
                people[position] = person
        return people

    async def _at_once_or_beside(
        self, work: Callable[[], T], *, quick: bool, thread: ThreadPoolExecutor | None = None
    ) -> T:
        """Do some work here where that is quick, else on a thread, the engine's unless another is given.

        Raises DeadlineExceededError.
        """
        if quick:
            return work()
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(thread or self._executor, work)
        except TimeoutError:
            raise DeadlineExceededError(f"no answer within {self._seconds:g} seconds") from None

    async def item(self, id_: str) -> ItemDetails:
        """What is known about an item. Raises UnknownItemError."""
        return describe(self._store.current, id_)

    async def find_items(self, query: str, n: int, choice: Choice) -> FoundItems:
        """Items by their title, best match first. Raises DeadlineExceededError."""
        served = self._store.current
        return await self._search(served.checkpoint.items, lambda: find_items(served, query, n, choice))

    async def find_users(self, prefix: str, n: int) -> FoundUsers:
        """Users by the beginning of their id; nobody who was erased.

        Raises DeadlineExceededError or StoreUnavailableError.
        """
        served = self._store.current
        found = await self._search(served.checkpoint.users, lambda: find_users(served, prefix, n))
        if self._ratings is not None and found:
            stored = await self._ratings.of([user.id for user in found])
            found = [user for user in found if self._people.may_use_row(served, stored[user.id])]
        return FoundUsers(found, served.version)

    async def genres(self) -> Genres:
        """The genres of the items, those of the most items first. Raises DeadlineExceededError."""
        served = self._store.current
        return Genres(await self._search(served.checkpoint.items, served.genres), served.version)

    async def report(self, version: str, name: str) -> bytes:
        """A file of the report of a version. Raises UnknownVersionError, ReportNotFoundError or CheckpointError."""
        try:
            return await asyncio.to_thread(read_report, self._directory, version, name)
        except CheckpointNotFoundError:
            raise UnknownVersionError(f"there is no version {version!r}") from None

    async def _search(self, table: Sized, work: Callable[[], T]) -> T:
        return await self._at_once_or_beside(work, quick=len(table) <= QUICK_ROWS, thread=self._searcher)

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

    def _tell_listed(self, answers: Sequence[TopList]) -> None:
        for source, count in Counter(answer.source for answer in answers).items():
            self._tell(Listed(source, count))

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._follower.close()
        self._executor.shutdown()
        self._searcher.shutdown()


def _rated_inline(served: Served, inline: InlineRatings) -> Rated:
    rows_M = served.checkpoint.items.rows(inline.items)
    known_M = rows_M < len(served.checkpoint.items)
    return Rated(rows_M[known_M], np.asarray(inline.ratings, np.float64)[known_M], int(np.count_nonzero(~known_M)))


def describe(served: Served, id_: str) -> ItemDetails:
    """What is known about an item."""
    row = served.checkpoint.items.row(id_)
    if row == len(served.checkpoint.items):
        raise UnknownItemError(id_)
    (record,) = served.checkpoint.catalogue.slice(row, 1).to_pylist()
    return ItemDetails(**record, version=served.version)


def _answer_pairs(jobs: Sequence[_Pairs]) -> list[Predictions]:
    """All pairs of a batch together; the jobs share their snapshot."""
    return predict_together(jobs[0].served, [(job.pairs, job.fresh) for job in jobs])


def _answer_lists(jobs: Sequence[_Lists]) -> list[list[TopList]]:
    """All lists of a batch together; the jobs share their snapshot."""
    people = [person for job in jobs for person in job.people]
    lists = iter(top_lists(jobs[0].served, [query for job in jobs for query in job.queries], people))
    return [[next(lists) for _ in job.queries] for job in jobs]
