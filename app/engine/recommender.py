"""Lists on request: for users, for somebody who is known by ratings alone, and of items that are like another one.

A list of a small catalogue is made at once, on the caller's thread; others go through a batcher to the engine's thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.engine.batcher import Batcher
from app.engine.cancellation import Cancelled, unless_cancelled
from app.engine.errors import DeadlineExceededError
from app.engine.events import Listed, Listener
from app.engine.explanations import similar
from app.engine.fresh_users import UNSETTLED, FoldedUser, FreshUsers, Unsettled, fold, rated_inline
from app.engine.lists import RecentLists, top_list, top_lists
from app.engine.serving_model import ModelHolder, Served
from app.engine.threads import QUICK_CELLS, QUICK_PAIRS, Threads
from app.engine.types import InlineRatings, ListQuery, SimilarItems, TopList

LISTS_PER_BATCH = 64  # more users at once save little: at 32 the product is bound by arithmetic, no longer by memory


@dataclass(frozen=True, slots=True)
class _Job:
    served: Served
    queries: Sequence[ListQuery]
    people: Sequence[FoldedUser | None]


class Recommender:
    """Lists of items, by the current model.

    Args:
        models: where the current model is.
        fresh_users: users whose ratings are fresher than the model.
        threads: what is not quick is computed on one of them.
        max_queued: how many lists may wait.
        max_recent: how many lists are kept to be answered again.
        tell: is told of lists and batches.
    """

    def __init__(
        self,
        models: ModelHolder,
        fresh_users: FreshUsers,
        threads: Threads,
        max_queued: int,
        max_recent: int,
        tell: Listener,
    ) -> None:
        self._models = models
        self._fresh_users = fresh_users
        self._threads = threads
        self._tell = tell
        self._on_cpu = models.placement.is_cpu_alone
        self._max_recent = max_recent
        self._recent: tuple[Served | None, RecentLists] = (None, RecentLists(max_recent))
        self._batcher: Batcher[_Job, list[TopList]] = Batcher(
            "lists",
            _answer,
            threads.compute,
            max_rows=LISTS_PER_BATCH,
            max_queued=max_queued,
            seconds=threads.seconds,
            listeners=[tell],
        )

    async def top(self, query: ListQuery, cancelled: Cancelled | None = None) -> TopList:
        """The list of a query.

        Raises OrderingUnavailableError, OverloadedError, DeadlineExceededError, or CancelledRequestError once
        `cancelled` has ended.
        """
        served = self._models.current
        answer = self._quick_top(served, query)
        if answer is None:
            (answer,) = await self._wait(served, [query], cancelled)
        self._tell(Listed(answer.source, 1))
        return answer

    async def top_many(self, queries: Sequence[ListQuery], cancelled: Cancelled | None = None) -> list[TopList]:
        """The lists of some queries, all of one version; many are done in several steps. Raises as `top` does."""
        answers = await self._wait(self._models.current, queries, cancelled)
        for source, count in Counter(answer.source for answer in answers).items():
            self._tell(Listed(source, count))
        return answers

    async def inline(self, inline: InlineRatings, query: ListQuery) -> tuple[TopList, int]:
        """The list of somebody who gave these ratings, and how many of them it rests on. Nothing is kept.

        Raises OrderingUnavailableError or DeadlineExceededError.
        """
        served = self._models.current
        served.rank_by(query.rank_by)

        def work() -> tuple[TopList, int]:
            person = fold(served, rated_inline(served, inline))
            return top_list(served, query, person), len(person.rated_M)

        quick = len(inline.items) <= QUICK_PAIRS and self._is_quick(served, query)
        answer, used = await self._threads.run(work, quick=quick, thread=self._threads.compute)
        self._tell(Listed(answer.source, 1))
        return answer, used

    async def similar(self, item: str, n: int) -> SimilarItems:
        """The n items that are most like another one. Raises UnknownItemError or DeadlineExceededError."""
        served = self._models.current
        quick = self._on_cpu and served.cells <= QUICK_CELLS
        return await self._threads.run(lambda: similar(served, item, n), quick=quick, thread=self._threads.compute)

    def _quick_top(self, served: Served, query: ListQuery) -> TopList | None:
        """The list of a query from memory, or made here; None where that would take long."""
        person = self._person(served, query)
        if person is UNSETTLED:
            return None
        recent = self._recent_lists(served)
        answer = recent.get(query) if person is None else None
        if answer is None and self._is_quick(served, query):
            answer = top_list(served, query, person)
            if person is None:
                recent.put(query, answer)
        return answer

    def _person(self, served: Served, query: ListQuery) -> FoldedUser | Unsettled | None:
        if query.user is None:
            return None
        return self._fresh_users.find(served, query.user, served.checkpoint.users.row(query.user))

    def _is_quick(self, served: Served, query: ListQuery) -> bool:
        """Whether finding a list takes less time than another thread would."""
        if not self._on_cpu:
            return False
        return served.cells <= QUICK_CELLS if query.only is None else len(query.only) <= QUICK_PAIRS

    async def _wait(self, served: Served, queries: Sequence[ListQuery], cancelled: Cancelled | None) -> list[TopList]:
        if queries:
            self._batcher.check_room(min(len(queries), LISTS_PER_BATCH))
        return await unless_cancelled(self._submit(served, queries), cancelled)

    async def _submit(self, served: Served, queries: Sequence[ListQuery]) -> list[TopList]:
        for query in queries:
            served.rank_by(query.rank_by)
        answers: list[TopList] = []
        try:
            async with asyncio.timeout(self._threads.seconds):  # of all steps together: the batcher times each
                people = await self._people_of(served, queries)
                for at in range(0, len(queries), LISTS_PER_BATCH):
                    step = slice(at, at + LISTS_PER_BATCH)
                    job = _Job(served, queries[step], people[step])
                    answers += await self._batcher.submit(job, len(job.queries), served)
        except TimeoutError:
            raise DeadlineExceededError.after(self._threads.seconds) from None
        if len(queries) == 1 and people[0] is None and served is self._recent[0]:
            self._recent[1].put(queries[0], answers[0])
        return answers

    async def _people_of(self, served: Served, queries: Sequence[ListQuery]) -> list[FoldedUser | None]:
        users = [query.user or "" for query in queries]
        people: list[FoldedUser | None] = [None] * len(queries)
        for positions_M, person in await self._fresh_users.settle(served, users, served.checkpoint.users.rows(users)):
            for position in positions_M.tolist():
                people[position] = person
        return people

    def _recent_lists(self, served: Served) -> RecentLists:
        """Those of the current model; when that changes, the old ones are forgotten."""
        if self._recent[0] is not served:
            self._recent = (served, RecentLists(self._max_recent))
        return self._recent[1]


def _answer(jobs: Sequence[_Job]) -> list[list[TopList]]:
    """All lists of a batch together; the jobs share their model."""
    people = [person for job in jobs for person in job.people]
    lists = iter(top_lists(jobs[0].served, [query for job in jobs for query in job.queries], people))
    return [[next(lists) for _ in job.queries] for job in jobs]
