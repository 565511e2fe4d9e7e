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
from app.engine.folding import fold, rated_inline
from app.engine.fresh_users import FreshUser, FreshUsers, UnreadRatingsError
from app.engine.predictions import predict_folded, predict_pair, predict_rows, predict_together, rows
from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ModelHolder, ServingModel
from app.engine.threads import QUICK_PAIRS, Worker
from app.engine.types import SOURCES, Explanation, InlineRatings, Pair, Pairs, Prediction, Predictions
from models.errors import UnknownUserError

PAIRS_PER_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class _Job:
    model: ServingModel
    pairs: Pairs
    fresh: Sequence[FreshUser]


class Predictor:
    """What users would give items, by the current model."""

    def __init__(
        self,
        models: ModelHolder,
        fresh_users: FreshUsers,
        history: RatingHistory,
        worker: Worker,
        max_queued: int,
        tell: Listener,
    ) -> None:
        self._models = models
        self._fresh_users = fresh_users
        self._history = history
        self._worker = worker
        self._tell = tell
        self._quick_pairs = QUICK_PAIRS if models.placement.is_cpu_alone else -1
        self._batcher: Batcher[_Job, Predictions] = Batcher(
            "predictions",
            _answer,
            worker.executor,
            max_rows=PAIRS_PER_BATCH,
            max_queued=max_queued,
            seconds=worker.seconds,
            listeners=[tell],
        )

    async def pair(self, pair: Pair, cancelled: Cancelled | None = None) -> Prediction:
        """The rating of one pair.

        Raises OverloadedError, DeadlineExceededError, or CancelledRequestError once `cancelled` has ended.
        """
        model = self._models.current
        if self._quick_pairs > 0:
            try:
                folded = self._fresh_users.find(model, pair.user, model.users.row(pair.user))
            except UnreadRatingsError:
                pass
            else:
                answer = predict_pair(model, pair, folded)
                self._tell(Predicted(answer.source, 1))
                return answer
        return (await self._wait(model, Pairs([pair.user], [pair.item]), cancelled)).at(0)

    async def pairs(self, pairs: Pairs, cancelled: Cancelled | None = None) -> Predictions:
        """The rating of each pair, clipped to the scale. Raises as `pair` does."""
        model = self._models.current
        if len(pairs) <= self._quick_pairs:
            users_B, items_B = rows(model, pairs)
            try:
                fresh = self._fresh_users.find_all(model, pairs.users, users_B)
            except UnreadRatingsError:
                pass
            else:
                answer = predict_rows(model, users_B, items_B, fresh)
                self._tell_of(answer)
                return answer
        return await self._wait(model, pairs, cancelled)

    async def inline(self, inline: InlineRatings, items: Sequence[str]) -> tuple[Predictions, int]:
        """What somebody who gave these ratings would give some items, and how many of the ratings that rests on.

        Nothing is kept. Raises DeadlineExceededError.
        """
        model = self._models.current

        def work() -> tuple[Predictions, int]:
            folded = fold(model, rated_inline(model, inline))
            return predict_folded(model, folded, items), len(folded.rated_M)

        quick = len(inline.items) + len(items) <= QUICK_PAIRS
        answer, used = await self._worker.run(work, quick=quick)
        self._tell_of(answer)
        return answer, used

    async def explain(self, user: str, item: str, n: int) -> Explanation:
        """Why a user is predicted what they are for an item: their n ratings with the largest parts in it.

        Raises UnknownItemError, UnknownUserError, StoreUnavailableError or DeadlineExceededError.
        """
        model = self._models.current
        item_row(model, item)
        stored = await self._history.stored([user])
        rated = self._history.rated(model, user, stored[user])
        if len(rated.rows_M) == 0:
            raise UnknownUserError(user)
        return await self._worker.run(
            lambda: explain(model, user, item, rated, n), quick=len(rated.rows_M) <= QUICK_PAIRS
        )

    async def _wait(self, model: ServingModel, pairs: Pairs, cancelled: Cancelled | None) -> Predictions:
        self._batcher.check_room(len(pairs))
        answer = await unless_cancelled(self._submit(model, pairs), cancelled)
        self._tell_of(answer)
        return answer

    async def _submit(self, model: ServingModel, pairs: Pairs) -> Predictions:
        fresh = await self._fresh_users.read_all(model, pairs.users, model.users.rows(pairs.users))
        return await self._batcher.submit(_Job(model, pairs, fresh), len(pairs), model)

    def _tell_of(self, answer: Predictions) -> None:
        for source, count in zip(SOURCES, np.bincount(answer.sources_B, minlength=len(SOURCES)).tolist(), strict=True):
            if count:
                self._tell(Predicted(source, count))


def _answer(jobs: Sequence[_Job]) -> list[Predictions]:
    """All pairs of a batch together; the jobs share their model."""
    return predict_together(jobs[0].model, [(job.pairs, job.fresh) for job in jobs])
