"""Makes lists: for users, for ratings given with a request, and of items that are similar to another one.

A list of a small catalogue is made immediately, on the caller's thread; others go through a batcher to a thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch

from app.engine.batcher import Batcher
from app.engine.documents import SimilarItem, SimilarItems
from app.engine.events import Listed, Listener
from app.engine.folding import FoldedUser, fold, known_items
from app.engine.fresh_users import FreshUsers, UnreadRatingsError
from app.engine.lists import is_worth_keeping, top_list, top_lists
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import Recent, ServingModel
from app.engine.threads import QUICK_CELLS, QUICK_PAIRS, Cancelled, Worker, unless_cancelled, within
from app.engine.types import InlineRatings, ListQuery, TopList, shortest

LISTS_PER_BATCH = 64  # more users at once save little: at 32 the product is bound by arithmetic, no longer by memory


class _Job(NamedTuple):
    model: ServingModel
    queries: Sequence[ListQuery]
    folded: Sequence[FoldedUser | None]


class Recommender:
    """Makes lists of items with the current model."""

    def __init__(
        self,
        models: ModelHolder,
        fresh_users: FreshUsers,
        worker: Worker,
        max_queued: int,
        max_recent: int,
        tell: Listener,
    ) -> None:
        self._models, self._fresh_users, self._worker, self._tell = models, fresh_users, worker, tell
        self._on_cpu = models.placement.is_cpu_alone
        self._recent: Recent[ListQuery, TopList] = Recent(max_recent, shows_items=True)
        self._batcher: Batcher[_Job, list[TopList]] = Batcher(
            "lists", _answer, worker, tell, max_rows=LISTS_PER_BATCH, max_queued=max_queued
        )

    async def top(self, query: ListQuery, cancelled: Cancelled | None = None, version: str | None = None) -> TopList:
        """The list of a query, by the model of the user, or by the one of a version.

        Raises VersionNotLoadedError, OrderingUnavailableError, OverloadedError, DeadlineExceededError, or
        CancelledRequestError once `cancelled` has ended.
        """
        model = self._models.of_user(query.user, version)
        model.order(query.rank_by)
        answer = self._quick_top(model, query)
        if answer is None:
            (answer,) = await self._wait(model, [query], cancelled)
        self._tell(Listed(answer.source, 1))
        return answer

    async def top_many(
        self, queries: Sequence[ListQuery], cancelled: Cancelled | None = None, version: str | None = None
    ) -> list[TopList]:
        """The lists of some queries, all of one version; many are made in several steps. Raises as `top` does."""
        model = self._models.of_users([query.user or "" for query in queries], version)
        answers = await self._wait(model, queries, cancelled)
        for source, count in Counter(answer.source for answer in answers).items():
            self._tell(Listed(source, count))
        return answers

    async def inline(self, inline: InlineRatings, query: ListQuery, version: str | None = None) -> tuple[TopList, int]:
        """The list that follows from the given ratings, and how many of these count. Nothing is stored.

        Raises VersionNotLoadedError, OrderingUnavailableError or DeadlineExceededError.
        """
        model = self._models.of_user(None, version)
        model.order(query.rank_by)

        def work() -> tuple[TopList, int]:
            folded = fold(model, known_items(model, inline.items, inline.ratings))
            return top_list(model, query, folded), len(folded.rated_M)

        quick = len(inline.items) <= QUICK_PAIRS and self._is_quick(model, query)
        answer, used = await self._worker.run(work, quick=quick)
        self._tell(Listed(answer.source, 1))
        return answer, used

    async def similar(self, item: str, n: int) -> SimilarItems:
        """The n items most similar to another one. Raises UnknownItemError or DeadlineExceededError."""
        model = self._models.current
        quick = self._on_cpu and model.cells <= QUICK_CELLS
        return await self._worker.run(lambda: similar_items(model, item, n), quick=quick)

    def _quick_top(self, model: ServingModel, query: ListQuery) -> TopList | None:
        """The list of a query, from memory or computed here; None if that would take long."""
        folded = None
        if query.user is not None:
            try:
                folded = self._fresh_users.find(model, query.user, model.users.row(query.user))
            except UnreadRatingsError:
                return None
        keep = folded is None and is_worth_keeping(query)
        answer = self._recent.get(model, query) if keep else None
        if answer is None and self._is_quick(model, query):
            answer = top_list(model, query, folded)
            if keep:
                self._recent.put(model, query, answer)
        return answer

    def _is_quick(self, model: ServingModel, query: ListQuery) -> bool:
        """Whether computing a list takes less time than handing it to another thread."""
        if not self._on_cpu or query.diversity:
            return False
        return model.cells <= QUICK_CELLS if query.only is None else len(query.only) <= QUICK_PAIRS

    async def _wait(
        self, model: ServingModel, queries: Sequence[ListQuery], cancelled: Cancelled | None
    ) -> list[TopList]:
        if queries:
            self._batcher.check_room(min(len(queries), LISTS_PER_BATCH))
        for rank_by in {query.rank_by for query in queries}:
            model.order(rank_by)
        # The batcher limits the time of each step; this limits that of all steps together.
        return await unless_cancelled(within(self._worker.seconds, self._steps(model, queries)), cancelled)

    async def _steps(self, model: ServingModel, queries: Sequence[ListQuery]) -> list[TopList]:
        users = [query.user or "" for query in queries]
        rows_B = await asyncio.to_thread(model.users.rows, users) if len(users) > 1 else model.users.rows(users)
        fresh = await self._fresh_users.read_all(model, users, rows_B)
        folded = {position: user for positions_M, user in fresh for position in positions_M.tolist()}
        answers: list[TopList] = []
        for at in range(0, len(queries), LISTS_PER_BATCH):
            step = queries[at : at + LISTS_PER_BATCH]
            job = _Job(model, step, [folded.get(at + number) for number in range(len(step))])
            answers += await self._batcher.submit(job, len(step), model)
        if len(queries) == 1 and not folded and is_worth_keeping(queries[0]):
            self._recent.put(model, queries[0], answers[0])
        return answers


@torch.inference_mode()
def similar_items(model: ServingModel, item: str, n: int) -> SimilarItems:
    """The items whose factors have the largest cosine with those of the item.

    The factors are those of the default order of lists: of the relevance head if there is one.
    """
    shown_I = model.catalogue.shown_I
    hidden = 0 if shown_I is None else int((~shown_I).sum())
    rows_N, cosines_N = model.orderings[model.default_order].similar_items(model.item_row(item), n + hidden)
    if shown_I is not None:
        kept_N = torch.from_numpy(shown_I[rows_N.numpy()])
        rows_N, cosines_N = rows_N[kept_N][:n], cosines_N[kept_N][:n]
    titles = map(model.catalogue.title, rows_N.tolist())
    items = [
        SimilarItem(item=title.id, similarity=similarity, title=title.title, year=title.year)
        for title, similarity in zip(titles, shortest(cosines_N.numpy()), strict=True)
    ]
    return SimilarItems(item=item, items=items, model_version=model.version)


def _answer(jobs: Sequence[_Job]) -> list[list[TopList]]:
    """All lists of a batch together; the jobs share their model."""
    folded = [user for job in jobs for user in job.folded]
    lists = iter(top_lists(jobs[0].model, [query for job in jobs for query in job.queries], folded))
    return [[next(lists) for _ in job.queries] for job in jobs]
