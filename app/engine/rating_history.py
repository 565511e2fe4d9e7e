"""All ratings that users have: those in the ratings store, and those that a model was fitted on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from app.engine.documents import DayOfRatings, RatingsSince, RatingsSummary, UserRating, UserRatings, UserRow
from app.engine.folding import RatedItems, known_items
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.engine.types import shortest
from app.ratings.errors import NoStoreError, TooManyRatingsError
from app.ratings.records import Change, StoredUser, known_time
from app.ratings.store import RatingsStore
from app.ratings.summary import DAY, StoredRatingsOfItem
from app.ratings.user_records import MOST_RATINGS

MOST_CHANGED = 1_000  # users that are looked at in a search for new ones


class RatingHistory:
    """Changes users' ratings, and joins the stored ones with the training ratings of a model."""

    def __init__(self, models: ModelHolder, store: RatingsStore | None) -> None:
        self._models = models
        self.store = store
        self._summaries = asyncio.Lock()

    async def change(self, change: Change) -> int:
        """Make a change durable; gives the store's revision after it.

        Raises NoStoreError if the service has no ratings store, RequestKeyError, and StoreUnavailableError, after which
        the change may or may not have been made.
        """
        if self.store is None:
            raise NoStoreError("this service has no ratings store")
        return await self.store.change(change)

    async def of(self, user: str) -> UserRatings:
        """All ratings that a user has, in the order of the items' ids.

        Raises StoreUnavailableError, or TooManyRatingsError for a user with more than are read of one.
        """
        return await self._of(self._models.of_user(user), user)

    async def export(self, user: str) -> tuple[UserRatings, UserRow | None]:
        """As `of`, and the user's row of the same model; None if there is none that may be used."""
        model = self._models.of_user(user)
        return await self._of(model, user), await self._row_of(model, user)

    async def _of(self, model: ServingModel, user: str) -> UserRatings:
        stored = (await self.stored([user]))[user]
        if not stored.complete:
            raise TooManyRatingsError(
                f"the user has more than {MOST_RATINGS} ratings: `ratecast export --ratings --user ID` writes them all"
            )
        titles, items = model.catalogue.title, model.items
        found = {}
        if self._counts_training_of(model, stored):
            rows_T, values_T = model.training_ratings(model.users.row(user))
            for row, value in zip(rows_T.tolist(), shortest(values_T), strict=True):
                title = titles(row)
                if title.id not in stored.deleted:
                    found[title.id] = UserRating(item=title.id, rating=value, timestamp=None, title=title.title)
        for rating in stored.ratings:
            row = items.row(rating.item)
            title_text = titles(row).title if row < len(items) else None
            found[rating.item] = UserRating(
                item=rating.item, rating=rating.rating, timestamp=known_time(rating.timestamp), title=title_text
            )
        return UserRatings(user=user, ratings=[found[item] for item in sorted(found)], model_version=model.version)

    async def summary(self, days: int) -> RatingsSummary:
        """What the store has, and how many ratings are of each of the last days.

        Raises NoStoreError or StoreUnavailableError.
        """
        if self.store is None:
            raise NoStoreError("this service has no ratings store")
        model = self._models.current
        fitted = self.fitted_revision(model)
        later = 0 if fitted is None else int(model.checkpoint.manifest.created_at.timestamp())
        tomorrow = int(time.time()) // DAY + 1
        async with self._summaries:  # each reads every rating, and many at once would leave the cores to nobody else
            found = await self.store.totals(fitted or 0, later, range(tomorrow - days, tomorrow))
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

    async def _row_of(self, model: ServingModel, user: str) -> UserRow | None:
        row = model.users.row(user)
        if row == len(model.users):
            return None
        if not await self.usable(model, [user]):
            return None
        tables, head = model.checkpoint.model, model.checkpoint.relevance
        return UserRow(
            bias=shortest(tables.user_bias[row : row + 1].numpy())[0],
            factors=shortest(tables.user_factors[row].numpy()),
            relevance_factors=None if head is None else shortest(head.user_factors[row].numpy()),
        )

    async def stored(self, users: Sequence[str]) -> Mapping[str, StoredUser]:
        """What the ratings store knows of some users. Raises StoreUnavailableError."""
        return dict.fromkeys(users, StoredUser()) if self.store is None else await self.store.of(users)

    async def parts(self, users: Sequence[str]) -> AsyncIterator[Mapping[str, StoredUser]]:
        """The same in parts, so that what is in memory is bounded."""
        if self.store is None:
            yield dict.fromkeys(users, StoredUser())
            return
        async for part in self.store.parts(users):
            yield part

    async def usable(self, model: ServingModel, users: Sequence[str]) -> list[str]:
        """Those of some users whose rows of a model may be used: it was fitted after their last deletion."""
        erased = {} if self.store is None else await self.store.erased(users)
        fitted = self.fitted_revision(model) or 0
        return [user for user in users if erased.get(user, 0) <= fitted]

    async def newcomers(self, model: ServingModel, prefix: str, n: int) -> dict[str, StoredUser]:
        """At most n users with ratings who are new to a model, those of the latest changes first, by an id's beginning.

        Of `MOST_CHANGED` changed users the new ones are found, and always the one with that id. Raises
        StoreUnavailableError.
        """
        if self.store is None:
            return {}
        users = await self.store.newest(self.fitted_revision(model) or 0, prefix, MOST_CHANGED)
        new = [user for user in users if model.users.row(user) == len(model.users)][:n]
        return {user: stored for user, stored in (await self.stored(new)).items() if stored.ratings}

    async def of_item(self, item: str) -> StoredRatingsOfItem:
        """What the ratings store says of the ratings of an item. Raises StoreUnavailableError."""
        return StoredRatingsOfItem([], frozenset()) if self.store is None else await self.store.of_item(item)

    def rated(self, model: ServingModel, user: str, stored: StoredUser) -> RatedItems:
        """All ratings of a user for items of the model. A stored rating replaces the training rating."""
        given = known_items(
            model, [rating.item for rating in stored.ratings], [rating.rating for rating in stored.ratings]
        )
        if not self._counts_training_of(model, stored):
            return given
        rows_T, values_T = model.training_ratings(model.users.row(user))
        kept_T = ~np.isin(rows_T, np.concatenate([given.rows_M, model.items.rows(list(stored.deleted))]))
        return RatedItems(
            np.concatenate([rows_T[kept_T].astype(np.int64), given.rows_M]),
            np.concatenate([values_T[kept_T].astype(np.float64), given.ratings_M]),
        )

    def fitted_revision(self, model: ServingModel) -> int | None:
        """The revision of the ratings store that a model was fitted on; None where it was fitted on other data."""
        return None if self.store is None else model.fitted_revisions.get(self.store.id)

    def counts_training(self, model: ServingModel) -> bool:
        """Whether training ratings count beside the stored ones: not if the model was fitted on the ratings store."""
        return self.fitted_revision(model) is None

    def _counts_training_of(self, model: ServingModel, stored: StoredUser) -> bool:
        """Whether a user's training ratings count beside the stored ones.

        They do not if none do, nor after the user was deleted.
        """
        return self.counts_training(model) and not stored.erased
