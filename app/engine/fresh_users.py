"""Users whose ratings are newer than the current model: their rows are folded in from all their ratings.

A user whose ratings have not changed since the model was fitted costs one comparison. The others' rows are solved once
for each change, and the latest are kept. While the ratings store is unreachable, the rows that are kept and those of
the model answer, except for users of whom it is known that they were deleted. For the thread of the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from app.engine.folding import FoldedUser, fold, known_items
from app.engine.rating_history import RatingHistory
from app.engine.scorer import Rows
from app.engine.serving_model import Recent, ServingModel
from app.engine.threads import QUICK_PAIRS
from app.engine.types import Ids
from app.ratings.errors import StoreUnavailableError
from app.ratings.records import StoredUser
from app.ratings.revisions import LATEST

QUICK_USERS = 32  # more are folded on another thread: each takes about 100 µs
RATINGS_A_USER = 500  # as many ratings take that again
NOTHING_KEPT = (0, None)


class UnreadRatingsError(Exception):
    """A user's ratings have changed, and must be read from the ratings store before the user can be answered."""


class FreshUser(NamedTuple):
    """A folded user, and where in a batch they stand."""

    positions_M: Rows
    folded: FoldedUser


class FreshUsers:
    """Finds the users to be folded in from their `history`, and keeps the rows of at most `max_kept`."""

    def __init__(self, history: RatingHistory, max_kept: int) -> None:
        self._history = history
        self._store = history.store
        # By the revision that a row follows from. None is kept for a user whose row in the model holds.
        self._kept: Recent[str, tuple[int, FoldedUser | None]] = Recent(max_kept, shows_items=False)

    def find(self, model: ServingModel, user: str, row: int) -> FoldedUser | None:
        """The row folded in for a user, or None where the one in the model holds.

        Raises UnreadRatingsError where the ratings must be read first: `read_all` does that.
        """
        if self._store is None:
            return None
        if not self._store.database.available:
            return self._without_store(model, user)
        revisions, fitted = self._store.revisions, model.fitted_revisions.get(self._store.id, 0)
        if revisions.table[LATEST] <= fitted:
            return None
        slots_U = model.revision_slots_U
        revision = revisions.table[int(slots_U[row]) if row < len(slots_U) else revisions.slot_of(user)]
        return None if revision <= fitted else self._recall(model, user, revision)

    def find_all(self, model: ServingModel, users: Ids, rows_B: Rows) -> list[FreshUser]:
        """Those of a batch of users who are folded in. Raises UnreadRatingsError as `find` does."""
        changed = self._changed(model, users, rows_B)
        return _placed(changed, {user: self._recall(model, user, at) for user, (at, _) in changed.items()})

    async def read_all(self, model: ServingModel, users: Ids, rows_B: Rows) -> list[FreshUser]:
        """As `find_all`, but reads what is unread; where the ratings store is unreachable, does without."""
        known, unread = {}, {}
        if len(users) > QUICK_PAIRS:  # to look for unknown users takes a microsecond for each
            changed = await asyncio.to_thread(self._changed, model, users, rows_B)
        else:
            changed = self._changed(model, users, rows_B)
        for user, (revision, _) in changed.items():
            try:
                known[user] = self._recall(model, user, revision)
            except UnreadRatingsError:
                unread[user] = revision
        if unread:
            known |= await self._read(model, unread)
        return _placed(changed, known)

    async def _read(self, model: ServingModel, unread: Mapping[str, int]) -> dict[str, FoldedUser | None]:
        """The rows of some users by the ratings store, kept under the revisions that were known before it was asked."""
        users: dict[str, FoldedUser | None] = {}
        try:
            async for stored in self._history.parts(list(unread)):
                if len(stored) + sum(len(user.ratings) for user in stored.values()) / RATINGS_A_USER > QUICK_USERS:
                    users |= await asyncio.to_thread(self._fold_all, model, stored)
                else:
                    users |= self._fold_all(model, stored)
        except StoreUnavailableError:
            return {user: self._without_store(model, user) for user in unread}
        for user, folded in users.items():
            self._kept.put(model, user, (unread[user], folded))
        return users

    def _fold_all(self, model: ServingModel, stored: Mapping[str, StoredUser]) -> dict[str, FoldedUser | None]:
        fitted = self._history.fitted_revision(model) or 0
        return {
            user: fold(model, self._history.rated(model, user, known)) if known.revision > fitted else None
            for user, known in stored.items()
        }

    def _changed(self, model: ServingModel, users: Ids, rows_B: Rows) -> dict[str, tuple[int, list[int]]]:
        """Users of a batch who may have changed since the model was fitted: at which revision, and where they stand."""
        if self._store is None:
            return {}
        revisions, fitted = self._store.revisions, model.fitted_revisions.get(self._store.id, 0)
        available = self._store.database.available
        if available and revisions.table[LATEST] <= fitted:
            return {}
        known_B = rows_B < len(model.revision_slots_U)
        slots_K = model.revision_slots_U[rows_B[known_B]]
        changed_K = revisions.changed_after(fitted, slots_K)
        if not available:
            changed_K = np.union1d(changed_K, self._store.deleted.possible(slots_K))
        changed: dict[str, tuple[int, list[int]]] = {}
        for position in np.concatenate([np.flatnonzero(known_B)[changed_K], np.flatnonzero(~known_B)]).tolist():
            user = str(users[position])
            if user in changed:
                changed[user][1].append(position)
            elif (revision := revisions.table[revisions.slot_of(user)]) > fitted or not available:
                changed[user] = revision, [position]
        return changed

    def _recall(self, model: ServingModel, user: str, revision: int) -> FoldedUser | None:
        """What is kept of a user for a revision; while the ratings store is unreachable, for any revision."""
        if self._store is not None and not self._store.database.available:
            return self._without_store(model, user)
        kept_revision, folded = self._kept.get(model, user) or NOTHING_KEPT
        if kept_revision != revision:
            raise UnreadRatingsError
        return folded

    def _without_store(self, model: ServingModel, user: str) -> FoldedUser | None:
        """What is kept of a user, unless they were deleted since: then nobody."""
        kept_revision, folded = self._kept.get(model, user) or NOTHING_KEPT
        snapshot = model.checkpoint.manifest.data.snapshot
        fitted = (None, 0) if snapshot is None else (snapshot.store, snapshot.revision)
        if self._store is not None and self._store.deleted.last(user, *fitted) > kept_revision:
            return fold(model, known_items(model, [], []))
        return folded


def _placed(changed: Mapping[str, tuple[int, list[int]]], users: Mapping[str, FoldedUser | None]) -> list[FreshUser]:
    found = ((positions, users[user]) for user, (_, positions) in changed.items())
    return [FreshUser(np.array(positions), folded) for positions, folded in found if folded is not None]
