"""Predicts ratings of pairs, for users of the model and for ratings given with a request, and explains them.

A few pairs are computed immediately, on the caller's thread; more go through a batcher to the engine's thread. Each
function answers from the one model that it is handed. Shapes: B pairs, M of one user, N items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from app.engine.batcher import Batcher
from app.engine.documents import Because, Reason
from app.engine.events import Listener, Predicted
from app.engine.folding import FoldedUser, RatedItems, fold, known_items
from app.engine.fresh_users import FreshUser, FreshUsers, UnreadRatingsError
from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ModelHolder, Rows, ServingModel
from app.engine.threads import QUICK_PAIRS, Cancelled, Worker, unless_cancelled
from app.engine.types import FOLDED, SOURCES, InlineRatings, Pair, Pairs, Prediction, Predictions
from models.errors import UnknownUserError

PAIRS_PER_BATCH = 100_000


class _Job(NamedTuple):
    model: ServingModel
    pairs: Pairs
    fresh: Sequence[FreshUser]


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

    async def pair(self, pair: Pair, cancelled: Cancelled | None = None) -> Prediction:
        """The rating of one pair.

        Raises OverloadedError, DeadlineExceededError, or CancelledRequestError once `cancelled` has ended.
        """
        model = self._models.current
        if self._quick_pairs > 0:
            user = model.users.row(pair.user)
            try:
                folded = self._fresh_users.find(model, pair.user, user)
            except UnreadRatingsError:
                pass
            else:
                answer = predict_pair(model, user, model.items.row(pair.item), folded)
                self._tell(Predicted(answer.source, 1))
                return answer
        return (await self._wait(model, Pairs([pair.user], [pair.item]), cancelled)).at(0)

    async def pairs(self, pairs: Pairs, cancelled: Cancelled | None = None) -> Predictions:
        """The rating of each pair, clipped to the scale. Raises as `pair` does."""
        model = self._models.current
        if len(pairs) <= self._quick_pairs:
            users_B, items_B = _rows(model, pairs)
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
        """The ratings of some items that follow from the given ratings, and how many of these count.

        Nothing is stored. Raises DeadlineExceededError.
        """
        model = self._models.current

        def work() -> tuple[Predictions, int]:
            folded = fold(model, known_items(model, inline.items, inline.ratings))
            return predict_folded(model, folded, model.items.rows(items)), len(folded.rated_M)

        quick = len(inline.items) + len(items) <= QUICK_PAIRS
        answer, used = await self._worker.run(work, quick=quick)
        self._tell_of(answer)
        return answer, used

    async def explain(self, user: str, item: str, n: int) -> Because:
        """Explains the prediction of an item for a user by their n ratings with the largest contributions.

        Raises UnknownItemError, UnknownUserError, StoreUnavailableError or DeadlineExceededError.
        """
        model = self._models.current
        model.item_row(item)
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


def predict_pair(model: ServingModel, user: int, item: int, folded: FoldedUser | None = None) -> Prediction:
    """The rating of a pair of rows; `folded` is the user's row if it is not that of the model."""
    if folded is not None:
        return predict_folded(model, folded, np.array([item])).at(0)
    source = SOURCES[(user == len(model.users)) * 2 + (item == len(model.items))]
    return Prediction(model.scorer.predict_pair(user, item), source, model.version)


def predict(model: ServingModel, pairs: Pairs) -> Predictions:
    """Rating of each pair, clipped to the scale."""
    return predict_rows(model, *_rows(model, pairs))


def predict_rows(model: ServingModel, users_B: Rows, items_B: Rows, fresh: Iterable[FreshUser] = ()) -> Predictions:
    """As `predict`, of pairs of rows; `fresh` are the users among them whose rows were folded in."""
    sources_B = (users_B == len(model.users)) * np.uint8(2)
    sources_B += items_B == len(model.items)
    answer = Predictions(model.scorer.predict(users_B, items_B), sources_B, model.version)
    for positions_M, folded in fresh:
        own = predict_folded(model, folded, items_B[positions_M])
        answer.ratings_B[positions_M], answer.sources_B[positions_M] = own.ratings_B, own.sources_B
    return answer


def predict_folded(model: ServingModel, folded: FoldedUser, items_N: Rows) -> Predictions:
    """The rating of each of some items by a folded-in user."""
    sources_N = (items_N == len(model.items)) + np.uint8(0 if folded.is_known else 2)
    sources_N[sources_N == 0] = FOLDED
    ratings_N = model.scorer.predict_folded(folded.factors_F, folded.bias, items_N)
    return Predictions(ratings_N, sources_N, model.version)


def explain(model: ServingModel, user: str, item: str, rated: RatedItems, n: int) -> Because:
    """The prediction of an item for a user as a sum over their ratings, the n largest contributions first.

    It is the prediction from the row that is folded in, which is linear in the ratings. Raises
    UnknownItemError.
    """
    row, title = model.item_row(item), model.catalogue.title
    sums = model.fold_in.users.contributions(rated.rows_M, rated.ratings_M, row)
    order_M = np.argsort(-np.abs(sums.parts_N), kind="stable")
    low, high = model.scorer.scale
    return Because(
        user=user,
        item=item,
        title=title(row).title,
        rating=float(min(max(sums.baseline + float(sums.parts_N.sum()), low), high)),
        baseline=sums.baseline,
        reasons=[
            Reason(
                item=reason.id,
                rating=float(rated.ratings_M[at]),
                contribution=float(sums.parts_N[at]),
                title=reason.title,
            )
            for at in order_M[:n].tolist()
            for reason in (title(int(rated.rows_M[at])),)
        ],
        others=float(sums.parts_N[order_M[n:]].sum()),
        model_version=model.version,
    )


def _answer(jobs: Sequence[_Job]) -> list[Predictions]:
    """The predictions of each job of a batch, of one model: all together are one gather-dot."""
    model, ends = jobs[0].model, np.cumsum([len(job.pairs) for job in jobs])
    users, items = zip(*(_rows(model, job.pairs) for job in jobs), strict=True)
    fresh = (
        FreshUser(positions_M + end - len(job.pairs), folded)
        for job, end in zip(jobs, ends, strict=True)
        for positions_M, folded in job.fresh
    )
    together = predict_rows(model, np.concatenate(users), np.concatenate(items), fresh)
    parts = zip(np.split(together.ratings_B, ends[:-1]), np.split(together.sources_B, ends[:-1]), strict=True)
    return [Predictions(ratings_B, sources_B, model.version) for ratings_B, sources_B in parts]


def _rows(model: ServingModel, pairs: Pairs) -> tuple[Rows, Rows]:
    return model.users.rows(pairs.users), model.items.rows(pairs.items)
