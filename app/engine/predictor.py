"""Ratings on request: of pairs, for somebody who is known by ratings alone, and why a rating is what it is.

A few pairs are computed at once, on the caller's thread; more go through a batcher to the engine's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.engine.batcher import Batcher
from app.engine.cancellation import Cancelled, unless_cancelled
from app.engine.events import Listener, Predicted
from app.engine.explanations import explain, item_row
from app.engine.fresh_users import UNSETTLED, Fresh, FreshUsers, fold, rated_inline
from app.engine.predictions import predict_folded, predict_pair, predict_rows, predict_together, rows
from app.engine.serving_model import ModelHolder, Served
from app.engine.threads import QUICK_PAIRS, Threads
from app.engine.types import SOURCES, Explanation, InlineRatings, Pair, Pairs, Prediction, Predictions
from models.errors import UnknownUserError

PAIRS_PER_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class _Job:
    served: Served
    pairs: Pairs
    fresh: Sequence[Fresh]


class Predictor:
    """What users would give items, by the current model.

    Args:
        models: where the current model is.
        fresh_users: users whose ratings are fresher than the model.
        threads: what is not quick is computed on one of them.
        max_queued: how many pairs may wait.
        tell: is told of predictions and batches.
    """

    def __init__(
        self, models: ModelHolder, fresh_users: FreshUsers, threads: Threads, max_queued: int, tell: Listener
    ) -> None:
        self._models = models
        self._fresh_users = fresh_users
        self._threads = threads
        self._tell = tell
        self._quick_pairs = QUICK_PAIRS if models.placement.is_cpu_alone else -1
        self._batcher: Batcher[_Job, Predictions] = Batcher(
            "predictions",
            _answer,
            threads.compute,
            max_rows=PAIRS_PER_BATCH,
            max_queued=max_queued,
            seconds=threads.seconds,
            listeners=[tell],
        )

    async def pair(self, pair: Pair, cancelled: Cancelled | None = None) -> Prediction:
        """The rating of one pair.

        Raises OverloadedError, DeadlineExceededError, or CancelledRequestError once `cancelled` has ended.
        """
        served = self._models.current
        if self._quick_pairs > 0:
            person = self._fresh_users.find(served, pair.user, served.checkpoint.users.row(pair.user))
            if person is not UNSETTLED:
                answer = predict_pair(served, pair, person)
                self._tell(Predicted(answer.source, 1))
                return answer
        return (await self._wait(served, Pairs([pair.user], [pair.item]), cancelled)).at(0)

    async def pairs(self, pairs: Pairs, cancelled: Cancelled | None = None) -> Predictions:
        """The rating of each pair, clipped to the scale. Raises as `pair` does."""
        served = self._models.current
        if len(pairs) <= self._quick_pairs:
            users_B, items_B = rows(served, pairs)
            fresh = self._fresh_users.find_all(served, pairs.users, users_B)
            if fresh is not UNSETTLED:
                answer = predict_rows(served, users_B, items_B, fresh)
                self._tell_of(answer)
                return answer
        return await self._wait(served, pairs, cancelled)

    async def inline(self, inline: InlineRatings, items: Sequence[str]) -> tuple[Predictions, int]:
        """What somebody who gave these ratings would give some items, and how many of the ratings that rests on.

        Nothing is kept. Raises DeadlineExceededError.
        """
        served = self._models.current

        def work() -> tuple[Predictions, int]:
            person = fold(served, rated_inline(served, inline))
            return predict_folded(served, person, items), len(person.rated_M)

        quick = len(inline.items) + len(items) <= QUICK_PAIRS
        answer, used = await self._threads.run(work, quick=quick, thread=self._threads.compute)
        self._tell_of(answer)
        return answer, used

    async def explain(self, user: str, item: str, n: int) -> Explanation:
        """Why a user is predicted what they are for an item: their n ratings with the largest parts in it.

        Raises UnknownItemError, UnknownUserError, StoreUnavailableError or DeadlineExceededError.
        """
        served = self._models.current
        item_row(served, item)
        rated = self._fresh_users.rated(served, user, await self._fresh_users.stored(user))
        if len(rated.rows_M) == 0:
            raise UnknownUserError(user)
        return await self._threads.run(
            lambda: explain(served, user, item, rated, n),
            quick=len(rated.rows_M) <= QUICK_PAIRS,
            thread=self._threads.compute,
        )

    async def _wait(self, served: Served, pairs: Pairs, cancelled: Cancelled | None) -> Predictions:
        self._batcher.check_room(len(pairs))
        answer = await unless_cancelled(self._submit(served, pairs), cancelled)
        self._tell_of(answer)
        return answer

    async def _submit(self, served: Served, pairs: Pairs) -> Predictions:
        fresh = await self._fresh_users.settle(served, pairs.users, served.checkpoint.users.rows(pairs.users))
        return await self._batcher.submit(_Job(served, pairs, fresh), len(pairs), served)

    def _tell_of(self, answer: Predictions) -> None:
        for source, count in zip(SOURCES, np.bincount(answer.sources_B, minlength=len(SOURCES)).tolist(), strict=True):
            if count:
                self._tell(Predicted(source, count))


def _answer(jobs: Sequence[_Job]) -> list[Predictions]:
    """All pairs of a batch together; the jobs share their model."""
    return predict_together(jobs[0].served, [(job.pairs, job.fresh) for job in jobs])
