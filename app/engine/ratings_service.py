"""The ratings of users: stored, deleted, read, and what the current model learned from them."""

from __future__ import annotations

from typing import Any

from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ModelHolder
from app.engine.types import UserRating, UserRatings
from app.ratings.errors import NoStoreError
from app.ratings.records import Change, Delete, Erase, Put, PutMany, Rating
from app.ratings.store import RatingsStore


class RatingsService:
    """Changes and reads users' ratings.

    Each change ends when it is durable, and gives the store's revision after it. It raises NoStoreError where the
    service keeps no ratings, and StoreUnavailableError, after which the change may or may not have been made.
    """

    def __init__(self, models: ModelHolder, history: RatingHistory, store: RatingsStore | None) -> None:
        self._models = models
        self._history = history
        self._store = store

    async def put(self, user: str, rating: Rating) -> int:
        """Store a rating, in place of the one before it."""
        return await self._change(Put(user, rating))

    async def put_many(self, ratings: PutMany) -> int:
        """Store many ratings in one transaction. Raises RequestKeyError too."""
        return await self._change(ratings)

    async def delete(self, user: str, item: str) -> int:
        """Delete a rating, be it stored or only in the model's training data."""
        return await self._change(Delete(user, item))

    async def erase(self, user: str) -> int:
        """Delete all that is known of a user."""
        return await self._change(Erase(user))

    async def of(self, user: str) -> UserRatings:
        """All ratings that a user has, in the order of the items' ids. Raises StoreUnavailableError."""
        model = self._models.current
        stored = (await self._history.stored([user]))[user]
        titles, items = model.catalogue.title, model.items
        found = {}
        if self._history.counts_training(model, stored):
            rows_T, values_T = model.training_ratings(model.users.row(user))
            for row, value in zip(rows_T.tolist(), values_T.tolist(), strict=True):
                title = titles(row)
                if title.id not in stored.deleted:
                    found[title.id] = UserRating(title.id, value, None, title.title)
        for rating in stored.ratings:
            row = items.row(rating.item)
            title_text = titles(row).title if row < len(items) else None
            found[rating.item] = UserRating(rating.item, rating.rating, rating.timestamp, title_text)
        return UserRatings(user, [found[item] for item in sorted(found)], model.version)

    async def row_of(self, user: str) -> dict[str, Any] | None:
        """What the model learned of a user: bias, factors, relevance_factors. None where it has no row to be used."""
        model = self._models.current
        row = model.users.row(user)
        if row == len(model.users):
            return None
        stored = await self._history.stored([user])
        if not self._history.may_use_row(model, stored[user]):
            return None
        tables, head = model.checkpoint.model, model.checkpoint.relevance
        return {
            "bias": float(tables.user_bias[row]),
            "factors": tables.user_factors[row].tolist(),
            "relevance_factors": None if head is None else head.user_factors[row].tolist(),
        }

    def knows_item(self, item: str) -> bool:
        """Whether the current model has an item."""
        return item in self._models.current.checkpoint.items

    async def _change(self, change: Change) -> int:
        if self._store is None:
            raise NoStoreError("this service keeps no ratings")
        return await self._store.change(change)
