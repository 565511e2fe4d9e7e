"""The users of an item: who has rated it, and who would rate it high.

Shapes: U users, N ratings of one item, C candidates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.engine.documents import ItemRatings, LikelyUser, LikelyUsers, RatingByUser, RatingLevel
from app.engine.model_holder import ModelHolder
from app.engine.predictions import Predictor
from app.engine.rating_history import RatingHistory
from app.engine.scorer import Rows
from app.engine.serving_model import ServingModel
from app.engine.threads import Worker
from app.engine.types import SOURCES, Pairs, shortest
from app.ratings.records import known_time
from app.ratings.summary import StoredRatingsOfItem
from models.errors import UnknownItemError

MOST_LEVELS = 20
SPARE = 2  # candidates for each user of the answer: ratings that were stored since the fit change who is first
USERS_AT_ONCE = 1 << 16  # whose factors are gathered together: 64 of them take 16 MiB


class ItemUsers:
    """Answers about the users of an item, by the current model and the ratings store."""

    def __init__(self, models: ModelHolder, history: RatingHistory, predictions: Predictor, worker: Worker) -> None:
        self._models, self._history, self._predictions, self._worker = models, history, predictions, worker

    async def ratings(self, item: str, n: int) -> ItemRatings:
        """All ratings of an item, counted, and the n latest.

        Raises UnknownItemError for an item without ratings that the model does not know, StoreUnavailableError or
        DeadlineExceededError.
        """
        model = self._models.current
        stored = await self._history.of_item(item)
        row = model.items.row(item)
        if row == len(model.items) and not stored.ratings:
            raise UnknownItemError(item)
        training = self._history.counts_training(model)
        return await self._worker.run(lambda: _ratings(model, item, row, stored, n, training=training), quick=False)

    async def likely(self, item: str, n: int) -> LikelyUsers:
        """The n users with the highest predicted rating among those who have not rated the item.

        Raises UnknownItemError, StoreUnavailableError, OverloadedError or DeadlineExceededError.
        """
        model = self._models.current
        row = model.item_row(item)
        users = await self._worker.run(lambda: model.users.lookup(_best_users(model, row, SPARE * n)), quick=False)
        stored = await self._history.stored(users)
        usable = [
            user
            for user in await self._history.usable(model, users)
            if all(rating.item != item for rating in stored[user].ratings)
        ]
        predicted = await self._predictions.pairs(Pairs(usable, [item] * len(usable)))
        best = np.argsort(-predicted.ratings_B, kind="stable")[:n].tolist()
        found = [
            LikelyUser(user=usable[at], rating=rating, source=SOURCES[predicted.sources_B[at]])
            for at, rating in zip(best, shortest(predicted.ratings_B[best]), strict=True)
        ]
        return LikelyUsers(item=item, users=found, model_version=predicted.version)


def _ratings(
    model: ServingModel, item: str, row: int, stored: StoredRatingsOfItem, n: int, *, training: bool
) -> ItemRatings:
    """`training` says whether training ratings count beside the stored ones."""
    users_N, ratings_N = np.empty(0, np.int64), np.empty(0, np.float32)
    if training and row < len(model.items):
        users_N, ratings_N = model.training_ratings_of(row)
        others = model.users.rows([*stored.without, *(rating.user for rating in stored.ratings)])
        kept_N = ~np.isin(users_N, others)
        users_N, ratings_N = users_N[kept_N], ratings_N[kept_N]
    values = np.concatenate([[rating.rating for rating in stored.ratings], ratings_N.astype(np.float64)])
    latest = [
        RatingByUser(user=rating.user, rating=rating.rating, timestamp=known_time(rating.timestamp))
        for rating in stored.ratings[:n]
    ]
    rest_N = slice(0, n - len(latest))
    latest += [
        RatingByUser(user=user, rating=rating, timestamp=None)
        for user, rating in zip(model.users.lookup(users_N[rest_N]), shortest(ratings_N[rest_N]), strict=True)
    ]
    return ItemRatings(
        item=item,
        ratings=len(values),
        mean_rating=shortest(values.mean(keepdims=True))[0] if len(values) else None,
        levels=_levels(values, model.scorer.scale),
        latest=latest,
        model_version=model.version,
    )


def _levels(values_N: npt.NDArray[np.float64], scale: tuple[float, float]) -> list[RatingLevel]:
    levels, counts = np.unique(values_N, return_counts=True)
    if len(levels) > MOST_LEVELS:
        levels = np.linspace(*scale, MOST_LEVELS)
        step = levels[1] - levels[0]
        nearest_N = np.clip(np.rint((values_N - scale[0]) / step).astype(np.int64), 0, MOST_LEVELS - 1)
        counts = np.bincount(nearest_N, minlength=MOST_LEVELS)
    return [
        RatingLevel(rating=rating, ratings=number)
        for rating, number in zip(shortest(levels), counts.tolist(), strict=True)
    ]


def _best_users(model: ServingModel, item: int, count: int) -> Rows:
    """Rows of the users whose fitted rows give an item the highest rating, best first, without those who rated it."""
    scores_U = np.empty(len(model.users), np.float32)
    for begin in range(0, len(scores_U), USERS_AT_ONCE):
        rows_C = np.arange(begin, min(begin + USERS_AT_ONCE, len(scores_U)))
        scores_U[rows_C] = model.scorer.expected(rows_C, np.full(len(rows_C), item))
    rated_N, _ = model.training_ratings_of(item)
    scores_U[rated_N] = -np.inf
    count = min(count, len(scores_U) - len(rated_N))
    best: Rows = np.argsort(-scores_U, kind="stable")[:count]
    return best
