"""All ratings that users have: those in the ratings store, and those that a model was fitted on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from app.engine.documents import DayOfRatings, RatingsSince, RatingsSummary, UserRating, UserRatings, UserRow
from app.engine.folding import RatedItems, known_items
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.ratings.errors import NoStoreError
from app.ratings.records import Change, StoredUser
from app.ratings.store import RatingsStore
from app.ratings.summary import DAY


class RatingHistory:
    """Changes users' ratings, and joins the stored ones with the training ratings of a model."""

    def __init__(self, models: ModelHolder, store: RatingsStore | None) -> None:
        self._models = models
        self.store = store

    async def change(self, change: Change) -> int:
        """Make a change durable; gives the store's revision after it.

        Raises NoStoreError if the service has no ratings store, RequestKeyError, and StoreUnavailableError, after which
        the change may or may not have been made.
        """
        if self.store is None:
            raise NoStoreError("this service has no ratings store")
        return await self.store.change(change)

    async def of(self, user: str) -> UserRatings:
        """All ratings that a user has, in the order of the items' ids. Raises StoreUnavailableError."""
        model = self._models.of_user(user)
        stored = (await self.stored([user]))[user]
        titles, items = model.catalogue.title, model.items
        found = {}
        if self._counts_training(model, stored):
            rows_T, values_T = model.training_ratings(model.users.row(user))
            for row, value in zip(rows_T.tolist(), values_T.tolist(), strict=True):
                title = titles(row)
                if title.id not in stored.deleted:
                    found[title.id] = UserRating(item=title.id, rating=value, timestamp=None, title=title.title)
        for rating in stored.ratings:
            row = items.row(rating.item)
            title_text = titles(row).title if row < len(items) else None
            found[rating.item] = UserRating(
                item=rating.item, rating=rating.rating, timestamp=rating.timestamp, title=title_text
            )
        return UserRatings(user=user, ratings=[found[item] for item in sorted(found)], model_version=model.version)

    async def summary(self, days: int) -> RatingsSummary:
        """What the store has, and how many ratings are of each of the last days.

        Raises NoStoreError or StoreUnavailableError.
        """
        if self.store is None:
            raise NoStoreError("this service has no ratings store")
        model = self._models.current
        fitted = model.fitted_revision(self.store)
        later = 0 if fitted is None else int(model.checkpoint.manifest.created_at.timestamp())
        found = await self.store.totals(fitted or 0, later, int(time.time()) // DAY - days + 1)
        first, last = (None if at is None else datetime.fromtimestamp(at, UTC) for at in (found.first, found.last))
        return RatingsSummary(
            ratings=found.ratings,
            users=found.users,
            items=found.items,
            deleted_users=found.erased_users,
            first=first,
            last=last,
            since_fit=RatingsSince(users=found.changed_users, ratings=found.later_ratings),
            days=[
                DayOfRatings(day=datetime.fromtimestamp(day * DAY, UTC).date(), ratings=number)
                for day, number in found.days.items()
            ],
            model_version=model.version,
        )

    async def row_of(self, user: str) -> UserRow | None:
        """A user's row of the model; None if there is none that may be used."""
        model = self._models.of_user(user)
        row = model.users.row(user)
        if row == len(model.users):
            return None
        stored = await self.stored([user])
        if not self.may_use_row(model, stored[user]):
            return None
        tables, head = model.checkpoint.model, model.checkpoint.relevance
        return UserRow(
            bias=float(tables.user_bias[row]),
            factors=tables.user_factors[row].tolist(),
            relevance_factors=None if head is None else head.user_factors[row].tolist(),
        )

    async def stored(self, users: Sequence[str]) -> Mapping[str, StoredUser]:
        """What the ratings store knows of some users. Raises StoreUnavailableError."""
        return dict.fromkeys(users, StoredUser()) if self.store is None else await self.store.of(users)

    def may_use_row(self, model: ServingModel, stored: StoredUser) -> bool:
        """Whether the model was fitted after the user's last deletion, if there was one."""
        return (model.fitted_revision(self.store) or 0) >= stored.erased

    def rated(self, model: ServingModel, user: str, stored: StoredUser) -> RatedItems:
        """All ratings of a user for items of the model. A stored rating replaces the training rating."""
        given = known_items(
            model, [rating.item for rating in stored.ratings], [rating.rating for rating in stored.ratings]
        )
        if not self._counts_training(model, stored):
            return given
        rows_T, values_T = model.training_ratings(model.users.row(user))
        kept_T = ~np.isin(rows_T, np.concatenate([given.rows_M, model.items.rows(list(stored.deleted))]))
        return RatedItems(
            np.concatenate([rows_T[kept_T].astype(np.int64), given.rows_M]),
            np.concatenate([values_T[kept_T].astype(np.float64), given.ratings_M]),
        )

    def _counts_training(self, model: ServingModel, stored: StoredUser) -> bool:
        """Whether a user's training ratings count beside the stored ones.

        They do not if the model was fitted on the ratings store, which has them all, nor after the user was deleted.
        """
        return model.fitted_revision(self.store) is None and not stored.erased
