"""Who a user is to the model being served: a row of it, or one folded in from ratings that are fresher than the model.

A user whose ratings have not changed since the model was fitted costs one comparison. The others' rows are solved from
all ratings that they have, once for each change, and kept as long as there is room. While the store is away, the model
and what is kept answer. Event-loop side only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from app.engine.serving_model import Served
from app.engine.types import Ids, InlineRatings
from app.ratings.errors import StoreUnavailableError
from app.ratings.revisions import Revisions
from app.ratings.store import Stored

FOLDED_AT_ONCE = 32  # users; more are folded on another thread: each takes about 100 µs

Rows = npt.NDArray[np.int64]


class Ratings(Protocol):
    """Where ratings are kept. `app.ratings.store.RatingsStore` says more."""

    changes: Revisions
    id: str | None

    @property
    def available(self) -> bool: ...

    async def of(self, ids: Sequence[str]) -> dict[str, Stored]: ...


@dataclass(frozen=True, slots=True, eq=False)
class FoldedUser:
    """A row that follows from ratings alone.

    Attributes:
        factors_F, bias: p and b, float32.
        variance: what not knowing the row exactly adds to that of a rating, float32; None where the model has none.
        head_G: x of the relevance head, None where there is none.
        rated_M: rows of the items they rest on, int32.
    """

    factors_F: npt.NDArray[np.float32]
    bias: np.float32
    variance: np.float32 | None
    head_G: npt.NDArray[np.float32] | None
    rated_M: npt.NDArray[np.int32]

    @property
    def is_known(self) -> bool:
        """Whether there is any rating to rest on."""
        return len(self.rated_M) > 0


class Rated(NamedTuple):
    """Ratings of items of the model: distinct rows, float64 ratings, and how many others were of unknown items."""

    rows_M: Rows
    ratings_M: npt.NDArray[np.float64]
    unknown: int


class _Unsettled(Enum):
    UNSETTLED = 0


UNSETTLED: Final = _Unsettled.UNSETTLED
Unsettled: TypeAlias = Literal[_Unsettled.UNSETTLED]


class Fresh(NamedTuple):
    """Where in a batch a folded user stands."""

    positions_M: Rows
    person: FoldedUser


class FreshUsers:
    """The fresh users of the model being served.

    Args:
        ratings: where fresh ratings are; None where the service keeps none.
        most: how many users are kept.
    """

    def __init__(self, ratings: Ratings | None, most: int) -> None:
        self._ratings = ratings
        self._most = most
        self._served: Served | None = None
        self._kept: dict[str, tuple[int, FoldedUser | None]] = {}

    def find(self, served: Served, user: str, row: int) -> FoldedUser | Unsettled | None:
        """The row folded in for a user, None for the one in the model, or UNSETTLED: `settle` must be asked first."""
        if self._ratings is None:
            return None
        changes, since = self._ratings.changes, self._since(served)
        if changes.latest <= since:
            return None
        slot = int(served.slots_U[row]) if row < len(served.slots_U) else changes.slot_of(user)
        revision = changes.at(slot)
        return None if revision <= since else self._recall(served, user, revision)

    def find_all(self, served: Served, users: Ids, rows_B: Rows) -> list[Fresh] | Unsettled:
        """Of a batch of users, those that are folded in; UNSETTLED where `settle` must be asked for some first."""
        found: list[Fresh] = []
        for user, (revision, positions) in self._changed(served, users, rows_B).items():
            person = self._recall(served, user, revision)
            if person is UNSETTLED:
                return UNSETTLED
            if person is not None:
                found.append(Fresh(np.array(positions), person))
        return found

    async def settle(self, served: Served, users: Ids, rows_B: Rows) -> list[Fresh]:
        """As `find_all`, with what the store says of those who are not settled; where it is away, without them."""
        changed = self._changed(served, users, rows_B)
        lacking = [user for user, (revision, _) in changed.items() if self._recall(served, user, revision) is UNSETTLED]
        known = await self._ask(served, lacking, {user: changed[user][0] for user in lacking}) if lacking else {}
        found = []
        for user, (revision, positions) in changed.items():
            person = known[user] if user in known else self._recall(served, user, revision, or_older=True)
            if person is not None and person is not UNSETTLED:
                found.append(Fresh(np.array(positions), person))
        return found

    async def _ask(
        self, served: Served, users: Sequence[str], revisions: Mapping[str, int]
    ) -> Mapping[str, FoldedUser | None]:
        """What users are by the store, kept under the revisions that were read before it was asked."""
        assert self._ratings is not None  # noqa: S101 - else nobody has changed
        try:
            stored = await self._ratings.of(users)
        except StoreUnavailableError:
            return {}
        if len(users) > FOLDED_AT_ONCE:
            people = await asyncio.to_thread(self._people, served, stored)
        else:
            people = self._people(served, stored)
        for user, person in people.items():
            self._keep(served, user, revisions[user], person)
        return people

    def _people(self, served: Served, stored: Mapping[str, Stored]) -> dict[str, FoldedUser | None]:
        since = self._since(served)
        return {
            user: fold(served, self.rated(served, user, known)) if known.revision > since else None
            for user, known in stored.items()
        }

    def rated(self, served: Served, user: str, stored: Stored) -> Rated:
        """All ratings that a user has: the store's, and those of the training data that the store does not replace."""
        given = {rating.item: rating.rating for rating in stored.ratings}
        items = served.checkpoint.items
        rows_M = items.rows(list(given))
        values_M = np.fromiter(given.values(), np.float64, len(given))
        known_M = rows_M < len(items)
        rows_M, values_M, unknown = rows_M[known_M], values_M[known_M], int(np.count_nonzero(~known_M))
        if not self.trained_on_others(served, stored):
            return Rated(rows_M, values_M, unknown)
        rows_T, values_T = served.rated(served.checkpoint.users.row(user))
        replaced = np.concatenate([rows_M, items.rows(list(stored.deleted))])
        kept_T = ~np.isin(rows_T, replaced)
        rows = np.concatenate([rows_T[kept_T].astype(np.int64), rows_M])
        return Rated(rows, np.concatenate([values_T[kept_T].astype(np.float64), values_M]), unknown)

    async def stored(self, user: str) -> Stored:
        """What the ratings store knows of a user. Raises StoreUnavailableError."""
        return Stored() if self._ratings is None else (await self._ratings.of([user]))[user]

    async def with_usable_rows(self, served: Served, users: Sequence[str]) -> Collection[str]:
        """Of some users of the model those whose row rests on nothing that they had erased."""
        if self._ratings is None or not users:
            return users
        stored = await self._ratings.of(users)
        return {user for user in users if self.may_use_row(served, stored[user])}

    def trained_on_others(self, served: Served, stored: Stored) -> bool:
        """Whether a model's training ratings of a user count beside the store's: not where it was fitted on the store,
        which has all of them then, and not after an erasure."""
        snapshot = served.checkpoint.manifest.data.snapshot
        ours = self._ratings is not None and snapshot is not None and snapshot.store == self._ratings.id
        return not ours and not stored.erased

    def may_use_row(self, served: Served, stored: Stored) -> bool:
        """Whether the model's row of a user rests on nothing that they had erased."""
        return self._since(served) >= stored.erased

    def _since(self, served: Served) -> int:
        """The revision up to which a model knows the store's ratings."""
        snapshot = served.checkpoint.manifest.data.snapshot
        if snapshot is None or self._ratings is None or snapshot.store != self._ratings.id:
            return 0
        return snapshot.revision

    def _changed(self, served: Served, users: Ids, rows_B: Rows) -> dict[str, tuple[int, list[int]]]:
        """Users who may have changed since the model was fitted: their slot's revision, and where they stand."""
        if self._ratings is None:
            return {}
        changes, since = self._ratings.changes, self._since(served)
        if changes.latest <= since:
            return {}
        known_B = rows_B < len(served.slots_U)
        slots_K = served.slots_U[rows_B[known_B]]
        positions = np.concatenate([np.flatnonzero(known_B)[changes.beyond(slots_K, since)], np.flatnonzero(~known_B)])
        changed: dict[str, tuple[int, list[int]]] = {}
        for position in positions.tolist():
            user = str(users[position])
            if user in changed:
                changed[user][1].append(position)
                continue
            revision = changes.at(changes.slot_of(user))
            if revision > since:
                changed[user] = (revision, [position])
        return changed

    def _recall(
        self, served: Served, user: str, revision: int, *, or_older: bool = False
    ) -> FoldedUser | Unsettled | None:
        """What is kept of a user for this revision. While the store is away, what is kept for another one will do."""
        if self._served is not served:
            self._served, self._kept = served, {}
        kept = self._kept.get(user)
        if kept is not None and kept[0] == revision:
            return kept[1]
        assert self._ratings is not None  # noqa: S101 - else nobody has changed
        if or_older or not self._ratings.available:
            return None if kept is None else kept[1]
        return UNSETTLED

    def _keep(self, served: Served, user: str, revision: int, person: FoldedUser | None) -> None:
        if self._served is not served or self._most == 0:
            return
        self._kept.pop(user, None)
        if len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[user] = (revision, person)


def rated_inline(served: Served, inline: InlineRatings) -> Rated:
    """Ratings given with a request."""
    rows_M = served.checkpoint.items.rows(inline.items)
    known_M = rows_M < len(served.checkpoint.items)
    return Rated(rows_M[known_M], np.asarray(inline.ratings, np.float64)[known_M], int(np.count_nonzero(~known_M)))


def fold(served: Served, rated: Rated) -> FoldedUser:
    """The row that follows from some ratings."""
    row = served.fold_in.users.solve(rated.rows_M, rated.ratings_M)
    head = served.fold_in.head
    variance = None
    unknown_variance = served.unknown_variance
    if unknown_variance is not None:  # what an unknown user adds, less what the ratings tell
        learned = served.fold_in.users.prior_variance - row.variance
        variance = np.float32(max(unknown_variance - learned, 0.0))
    return FoldedUser(
        factors_F=row.factors,
        bias=row.bias,
        variance=variance,
        head_G=None if head is None else head.solve(rated.rows_M, rated.ratings_M),
        rated_M=rated.rows_M.astype(np.int32),
    )
