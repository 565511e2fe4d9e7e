"""All ratings that a user has: those in the ratings store, and those that the model was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app.engine.folding import RatedItems
from app.engine.serving_model import ServingModel
from app.ratings.records import StoredUser
from app.ratings.store import RatingsStore


class RatingHistory:
    """Joins what the ratings store knows with the training ratings of a model.

    Args:
        store: the ratings store; None where the service keeps no ratings.
    """

    def __init__(self, store: RatingsStore | None) -> None:
        self._store = store

    async def stored(self, users: Sequence[str]) -> Mapping[str, StoredUser]:
        """What the ratings store knows of some users. Raises StoreUnavailableError."""
        return dict.fromkeys(users, StoredUser()) if self._store is None else await self._store.of(users)

    def revision(self, model: ServingModel) -> int:
        """The revision of the ratings store that a model was fitted on; 0 where it was fitted on other data."""
        snapshot = model.checkpoint.manifest.data.snapshot
        if snapshot is None or self._store is None or snapshot.store != self._store.id:
            return 0
        return snapshot.revision

    def counts_training(self, model: ServingModel, stored: StoredUser) -> bool:
        """Whether a user's training ratings count beside the stored ones.

        They do not where the model was fitted on the ratings store, which has them all, and not after an erasure.
        """
        snapshot = model.checkpoint.manifest.data.snapshot
        ours = self._store is not None and snapshot is not None and snapshot.store == self._store.id
        return not ours and not stored.erased

    def may_use_row(self, model: ServingModel, stored: StoredUser) -> bool:
        """Whether the model was fitted without what the user had erased."""
        return self.revision(model) >= stored.erased

    def rated(self, model: ServingModel, user: str, stored: StoredUser) -> RatedItems:
        """All ratings of items of the model that a user has. A stored one replaces the training rating."""
        given = {rating.item: rating.rating for rating in stored.ratings}
        rows_M, values_M = model.items.rows(list(given)), np.fromiter(given.values(), np.float64, len(given))
        known_M = rows_M < len(model.items)
        rows_M, values_M = rows_M[known_M], values_M[known_M]
        if not self.counts_training(model, stored):
            return RatedItems(rows_M, values_M)
        rows_T, values_T = model.training_ratings(model.users.row(user))
        kept_T = ~np.isin(rows_T, np.concatenate([rows_M, model.items.rows(list(stored.deleted))]))
        return RatedItems(
            np.concatenate([rows_T[kept_T].astype(np.int64), rows_M]),
            np.concatenate([values_T[kept_T].astype(np.float64), values_M]),
        )
