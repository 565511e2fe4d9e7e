"""Ratings of pairs, of somebody who is known by ratings alone, and why they are what they are.

A few pairs are computed immediately, on the caller's thread; more go through a batcher to the engine's thread. Each
function answers from the one model that it is handed. Shapes: B pairs, M of one user, N items.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from app.engine.batcher import Batcher
from app.engine.because import explain
from app.engine.documents import Because
from app.engine.events import Listener, Predicted
from app.engine.folding import FoldedRows, FoldedUser, fold, known_items
from app.engine.fresh_users import FreshUser, FreshUsers, UnreadRatingsError
from app.engine.model_holder import ModelHolder
from app.engine.rating_history import RatingHistory
from app.engine.scorer import Rows
from app.engine.serving_model import ServingModel
from app.engine.threads import QUICK_PAIRS, Cancelled, Worker, unless_cancelled
from app.engine.types import (
    FOLDED,
    SOURCES,
    ExplainedOrder,
    InlineRatings,
    Pair,
    Pairs,
    Prediction,
    Predictions,
    RankBy,
)
from models.errors import UnknownUserError

PAIRS_PER_BATCH = 100_000


class _Job(NamedTuple):
    model: ServingModel
    pairs: Pairs
    fresh: Sequence[FreshUser]
    intervals: bool


class Predictor:
    """Predicts ratings with the current model."""

    def __init__(
        self,
        models: ModelHolder,
        fresh_users: FreshUsers,
        history: RatingHistory,
        worker: Worker,
        max_queued: int,
        tell: Listener,
    ) -> None:
        self._models, self._fresh_users, self._history = models, fresh_users, history
        self._worker, self._tell = worker, tell
        self._quick_pairs = QUICK_PAIRS if models.placement.is_cpu_alone else -1
        self._batcher: Batcher[_Job, Predictions] = Batcher(
            "predictions", _answer, worker, tell, max_rows=PAIRS_PER_BATCH, max_queued=max_queued
        )

    async def pair(
        self, pair: Pair, cancelled: Cancelled | None = None, *, intervals: bool = False, version: str | None = None
    ) -> Prediction:
        """The rating of one pair, by the model of the user, or by the one of a version.

        Raises VersionNotLoadedError, OverloadedError, DeadlineExceededError, or CancelledRequestError once `cancelled`
        has ended.
        """
        id_, item = pair
        model = self._models.of_user(id_, version)
        if self._quick_pairs > 0 and not intervals:
            user = model.users.row(id_)
            try:
                folded = self._fresh_users.find(model, id_, user)
            except UnreadRatingsError:
                pass
            else:
                answer = predict_pair(model, user, model.items.row(item), folded)
                self._tell(Predicted(answer.source, 1))
                return answer
        return (await self.pairs(Pairs([id_], [item]), cancelled, intervals=intervals, version=version)).at(0)

    async def pairs(
        self, pairs: Pairs, cancelled: Cancelled | None = None, *, intervals: bool = False, version: str | None = None
    ) -> Predictions:
        """The rating of each pair, clipped to the scale, and its interval, all by one model. Raises as `pair` does."""
        model = self._models.of_users(pairs.users, version)
        if len(pairs) <= self._quick_pairs:
            users_B, items_B = _rows(model, pairs)
            try:
                fresh = self._fresh_users.find_all(model, pairs.users, users_B)
            except UnreadRatingsError:
                pass
            else:
                answer = predict_rows(model, users_B, items_B, fresh, intervals=intervals)
                self._tell_of(answer)
                return answer
        return await self._wait(model, pairs, cancelled, intervals=intervals)

    async def inline(
        self, inline: InlineRatings, items: Sequence[str], *, intervals: bool = False, version: str | None = None
    ) -> tuple[Predictions, int]:
        """The ratings of some items that follow from the given ratings, and how many of these count.

        Nothing is stored. Raises VersionNotLoadedError or DeadlineExceededError.
        """
        model = self._models.of_user(None, version)

        def work() -> tuple[Predictions, int]:
            folded = fold(model, known_items(model, inline.items, inline.ratings))
            rows = model.items.rows(items)
            return predict_folded(model, folded, rows, intervals=intervals), len(folded.rated_M)

        quick = len(inline.items) + len(items) <= QUICK_PAIRS
        answer, used = await self._worker.run(work, quick=quick)
        self._tell_of(answer)
        return answer, used

    async def explain(self, user: str, item: str, n: int, order: ExplainedOrder, version: str | None = None) -> Because:
        """Explains the prediction of an item for a user by their n ratings with the largest contributions.

        Raises VersionNotLoadedError, OrderingUnavailableError, UnknownItemError, UnknownUserError,
        StoreUnavailableError or DeadlineExceededError.
        """
        model = self._models.of_user(user, version)
        model.order(RankBy(order))
        row = model.item_row(item)
        stored = await self._history.stored([user])
        rated = self._history.rated(model, user, stored[user])
        if len(rated.rows_M) == 0:
            raise UnknownUserError(user)
        fresh = await self._fresh_users.read_all(model, [user], model.users.rows([user]))
        folded = fresh[0].folded if fresh else None
        return await self._worker.run(
            lambda: explain(model, user, row, rated, folded, n, order), quick=len(rated.rows_M) <= QUICK_PAIRS
        )

    async def _wait(
        self, model: ServingModel, pairs: Pairs, cancelled: Cancelled | None, *, intervals: bool = False
    ) -> Predictions:
        self._batcher.check_room(len(pairs))
        answer = await unless_cancelled(self._submit(model, pairs, intervals=intervals), cancelled)
        self._tell_of(answer)
        return answer

    async def _submit(self, model: ServingModel, pairs: Pairs, *, intervals: bool) -> Predictions:
        users_B = await asyncio.to_thread(model.users.rows, pairs.users)
        fresh = await self._fresh_users.read_all(model, pairs.users, users_B)
        return await self._batcher.submit(_Job(model, pairs, fresh, intervals), len(pairs), (model, intervals))

    def _tell_of(self, answer: Predictions) -> None:
        for source, count in zip(SOURCES, np.bincount(answer.sources_B, minlength=len(SOURCES)).tolist(), strict=True):
            if count:
                self._tell(Predicted(source, count))


def predict_pair(model: ServingModel, user: int, item: int, folded: FoldedUser | None = None) -> Prediction:
    """The rating of a pair of rows; `folded` is the user's row if it is not that of the model."""
    if folded is not None:
        return predict_folded(model, folded, np.array([item])).at(0)
    source = (user == len(model.users)) * 2 + (item == len(model.items))
    if item >= model.fitted_items and source == 0:
        source = FOLDED
    return Prediction(model.scorer.predict_pair(user, item), SOURCES[source], model.version)


def predict(model: ServingModel, pairs: Pairs) -> Predictions:
    """Rating of each pair, clipped to the scale."""
    return predict_rows(model, *_rows(model, pairs))


def predict_rows(
    model: ServingModel, users_B: Rows, items_B: Rows, fresh: Iterable[FreshUser] = (), *, intervals: bool = False
) -> Predictions:
    """As `predict`, of pairs of rows; `fresh` are the users among them whose rows were folded in."""
    sources_B = (users_B == len(model.users)) * np.uint8(2)
    sources_B += items_B == len(model.items)
    if model.fitted_items < len(model.items):
        sources_B[(sources_B == 0) & (items_B >= model.fitted_items)] = FOLDED
    ends_2B = model.intervals.of_users(users_B, items_B) if intervals else None
    answer = Predictions(model.scorer.predict(users_B, items_B), sources_B, model.version, ends_2B)
    if fresh := [*fresh]:
        positions, users = zip(*fresh, strict=True)
        positions_M, folded = np.concatenate(positions), FoldedRows.repeated(users, [*map(len, positions)])
        own = _predict_folded(model, folded, items_B[positions_M], intervals=intervals)
        answer.ratings_B[positions_M], answer.sources_B[positions_M] = own.ratings_B, own.sources_B
        if ends_2B is not None:
            ends_2B[:, positions_M] = own.intervals_2B
    return answer


def predict_folded(model: ServingModel, folded: FoldedUser, items_N: Rows, *, intervals: bool = False) -> Predictions:
    """The rating of each of some items by a folded-in user."""
    return _predict_folded(model, FoldedRows.of(folded), items_N, intervals=intervals)


def _predict_folded(model: ServingModel, folded: FoldedRows, items_N: Rows, *, intervals: bool) -> Predictions:
    sources_N = (items_N == len(model.items)) + np.uint8(2) * np.logical_not(folded.is_known)
    sources_N[sources_N == 0] = FOLDED
    ratings_N = model.scorer.predict_folded(folded.factors, folded.bias, items_N)
    row = folded.factors, folded.bias, folded.variance
    ends_2N = model.intervals.of_folded(*row, items_N) if intervals else None
    return Predictions(ratings_N, sources_N, model.version, ends_2N)


def _answer(jobs: Sequence[_Job]) -> list[Predictions]:
    """The predictions of each job of a batch, which share their model and whether intervals are asked for."""
    model, ends = jobs[0].model, np.cumsum([len(job.pairs) for job in jobs])
    users, items = zip(*(_rows(model, job.pairs) for job in jobs), strict=True)
    fresh = (
        FreshUser(positions_M + end - len(job.pairs), folded)
        for job, end in zip(jobs, ends, strict=True)
        for positions_M, folded in job.fresh
    )
    together = predict_rows(model, np.concatenate(users), np.concatenate(items), fresh, intervals=jobs[0].intervals)
    columns = (together.ratings_B, together.sources_B, together.intervals_2B)
    parts = [[None] * len(jobs) if column is None else np.split(column, ends[:-1], axis=-1) for column in columns]
    return [
        Predictions(ratings_B, sources_B, model.version, ends_2B)
        for ratings_B, sources_B, ends_2B in zip(*parts, strict=True)
    ]


def _rows(model: ServingModel, pairs: Pairs) -> tuple[Rows, Rows]:
    return model.users.rows(pairs.users), model.items.rows(pairs.items)
