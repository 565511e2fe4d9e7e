"""Items that the model was not fitted to: their rows follow from their attributes and their ratings in the store.

Every worker reads whose ratings have changed since the fit, and keeps the users among them who rated such items. What
changes makes a view of the model with these items after the fitted ones; all else is shared.
Shapes: N new items, M ratings of them, C users who gave these.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa

from app.engine.folding import FoldedUser, fold
from app.engine.known_items import KnownItems
from app.engine.model_holder import ModelHolder
from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ServingModel
from app.engine.threads import Worker
from app.ratings.errors import StoreError
from app.ratings.records import StoredUser
from app.ratings.revisions import LATEST
from app.ratings.store import RatingsStore
from models.new_items import NewItemRows, NewItemSolver, Raters, RatingsOfNew
from models.stored_items import COLUMNS, StoredItem, newest, of_items

LOOK_SECONDS = 0.5
REST = 9.0  # times as long as a look took: with many changes it takes a tenth of the time
MOST_RATERS = 20_000  # users whose rows are kept, those of the latest changes: 2 kB each

logger = logging.getLogger(__name__)


class Rater(NamedTuple):
    """A user who rated new items: their row, and these ratings by item."""

    row: FoldedUser
    ratings: Mapping[str, float]


class NewItems:
    """Follows the new items of a store, at most `most` of them: the most rated first."""

    def __init__(self, models: ModelHolder, history: RatingHistory, worker: Worker, most: int) -> None:
        self._models, self._history, self._worker, self._most = models, history, worker, most
        self._of_versions: dict[str, OfVersion] = {}

    async def follow(self) -> NoReturn:
        """Answer for the new items, for ever. No failure ends it."""
        while True:
            began = time.monotonic()
            try:
                await self.refresh()
            except StoreError as error:
                logger.debug("The ratings of new items cannot be read now: %s", error)
            except Exception:
                logger.exception("Following the new items failed; retrying")
            await asyncio.sleep(max(LOOK_SECONDS, REST * (time.monotonic() - began)))

    async def refresh(self) -> None:
        """Read what was changed since the last time, and answer by it. Raises StoreUnavailableError."""
        store, loaded = self._history.store, self._models.loaded
        if store is None or self._most == 0:
            return
        before = self._of_versions
        self._of_versions = {}
        for model in loaded:
            found = before.get(model.version)
            if found is None or not found.is_of(model):
                found = OfVersion(model.without_new_items, self._history)
            self._of_versions[model.version] = found
        for model in loaded:
            await self._show(store, model, self._of_versions[model.version])

    async def _show(self, store: RatingsStore, model: ServingModel, found: OfVersion) -> None:
        if store.available:
            await found.read(store, self._worker)
        items = self._models.known_items
        if not found.is_shown(items):
            view = await self._worker.run_unlimited(lambda: found.view(items, self._most), quick=False)
            if view is None or self._models.replace(
                model, view
            ):  # else it was changed meanwhile: again at the next look
                found.note_shown(items)


class OfVersion:
    """The new items of a version, and who has rated them."""

    def __init__(self, published: ServingModel, history: RatingHistory) -> None:
        self._published, self._history = published, history
        self._solver: NewItemSolver | None = None
        self._raters: dict[str, Rater] = {}
        self._shown: tuple[KnownItems, int] | None = None  # the items, and how many changes of ratings
        self._described = self._next = COLUMNS.empty_table()  # the new items that the model answers for, and will
        self._changes, self._changes_shown = 0, 0
        self._new = COLUMNS.empty_table(), COLUMNS.empty_table()  # a table of known items, and the new ones of it
        self._reading, self._latest, self._read_to = -1, 0, (0, "")  # as `RatingsStore` counts

    async def read(self, store: RatingsStore, worker: Worker) -> None:
        """Read whose ratings have changed since the last time. Raises StoreUnavailableError."""
        latest = int(store.revisions.table[LATEST])
        if self._reading != store.reading:
            fitted = self._history.fitted_revision(self._published) or 0
            self._reading, self._latest, self._read_to = store.reading, fitted, (fitted + 1, "")
            self._changes += bool(self._raters)
            self._raters = {}
        while latest != self._latest:
            changed = await store.changed_after(self._read_to)
            if not changed or changed[-1].revision > latest:  # later changes are for the next time: they may never end
                self._latest = latest
            if not changed:
                break
            began = time.monotonic()
            async for stored in self._history.parts([one.user for one in changed]):
                self._put(await worker.run_unlimited(partial(self._found, stored), quick=False))
                await asyncio.sleep(time.monotonic() - began)  # all ratings of a store may have to be read
                began = time.monotonic()
            self._read_to = changed[-1].revision, changed[-1].user

    def is_of(self, model: ServingModel) -> bool:
        """Whether this is about that model, and not an earlier one of the version."""
        return model.without_new_items.checkpoint is self._published.checkpoint

    def is_shown(self, items: KnownItems) -> bool:
        """Whether the model answers by these items, and by the ratings that were read."""
        if self._shown is None:
            return not items and not self._raters
        return self._shown == (items, self._changes)

    def note_shown(self, items: KnownItems) -> None:
        """The model answers by these now."""
        self._shown = items, self._changes
        self._described, self._changes_shown = self._next, self._changes

    def view(self, items: KnownItems, most: int) -> ServingModel | None:
        """The model with its new items; None if it has them already. On the worker's thread."""
        published = self._published
        if self._solver is None:
            checkpoint = published.checkpoint
            self._solver = NewItemSolver.learn(
                checkpoint.model, checkpoint.prior, checkpoint.relevance, checkpoint.catalogue, checkpoint.seen
            )
        described = self._next = self._describe(items, self._solver, most)
        if self._changes == self._changes_shown and described.equals(self._described):
            return None
        ids, view = described["id"].to_pylist(), published
        if ids:
            view = published.with_new_items(ids, self._rows(self._solver, described, ids))
        if len(ids) != len(self._described):
            logger.info("Items that model %s was not fitted to and answers for: %d", published.version, len(ids))
        return view.with_items(items, time.time())

    def _found(self, users: Mapping[str, StoredUser]) -> dict[str, Rater | None]:
        """Those of some users who have rated new items, None for each other one."""
        return {user: self._rater(user, stored) for user, stored in users.items()}

    def _rater(self, user: str, stored: StoredUser) -> Rater | None:
        items, model = self._published.items, self._published
        of_new = {one.item: one.rating for one in stored.ratings if one.item not in items}
        return Rater(fold(model, self._history.rated(model, user, stored)), of_new) if of_new else None

    def _put(self, found: Mapping[str, Rater | None]) -> None:
        for user, rater in found.items():
            before = self._raters.pop(user, None)
            self._changes += before is not None or rater is not None
            if rater is not None:
                self._raters[user] = rater
        while len(self._raters) > MOST_RATERS:
            del self._raters[next(iter(self._raters))]

    def _describe(self, items: KnownItems, solver: NewItemSolver, most: int) -> pa.Table:
        """What is known of the new items that something can be predicted of: those that are rated come first."""
        counts: dict[str, int] = {}
        for rater in self._raters.values():
            for item in rater.ratings:
                counts[item] = counts.get(item, 0) + 1
        stored = self._stored(items)
        gone = {
            id_
            for id_, deleted in zip(*(stored[name].to_pylist() for name in ("id", "deleted")), strict=True)
            if deleted
        }
        known = stored.filter(pa.array(solver.knows(stored) & ~stored["deleted"].to_numpy()))
        rated = sorted((item for item in counts if item not in gone), key=lambda item: (-counts[item], item))
        ids = dict.fromkeys([*rated, *known["id"].to_pylist()])
        place = {id_: at for at, id_ in enumerate(stored["id"].to_pylist())}
        absent = of_items(StoredItem(id_) for id_ in ids if id_ not in place)
        place |= {id_: len(stored) + at for at, id_ in enumerate(absent["id"].to_pylist())}
        rows = pa.array([place[id_] for id_ in [*ids][:most]], pa.int64())
        return pa.concat_tables([stored, absent]).combine_chunks().take(rows)

    def _stored(self, items: KnownItems) -> pa.Table:
        """What a store says of items that the model was not fitted to, deleted ones too."""
        if self._new[0] is not items.table:
            self._new = items.table, self._not_fitted(items.table)
        later = self._not_fitted(of_items(items.later.values()))
        return newest(pa.concat_tables([self._new[1], later]))

    def _not_fitted(self, table: pa.Table) -> pa.Table:
        return table.filter(pa.array(self._published.items.rows(table["id"]) == len(self._published.items)))

    def _rows(self, solver: NewItemSolver, described: pa.Table, ids: Iterable[str]) -> NewItemRows:
        place = {id_: at for at, id_ in enumerate(ids)}
        given = [
            (place[item], rater, rating)
            for rater, user in enumerate(self._raters.values())
            for item, rating in user.ratings.items()
            if item in place
        ]
        items_M, raters_M, ratings_M = np.array(given, np.float64).reshape(-1, 3).T
        order_M = np.argsort(items_M, kind="stable")
        offsets = np.concatenate([[0], np.bincount(items_M.astype(np.int64), minlength=len(place)).cumsum()])
        of_new = RatingsOfNew(offsets, raters_M[order_M].astype(np.int64), ratings_M[order_M])
        return solver.solve(described, self._rater_rows(), of_new)

    def _rater_rows(self) -> Raters:
        users, model = [rater.row for rater in self._raters.values()], self._published.checkpoint.model
        head = self._published.checkpoint.relevance
        factors = np.array([user.factors_F for user in users], np.float32).reshape(-1, model.factors)
        bias = np.array([user.bias for user in users], np.float32)
        if head is None:
            return Raters(factors, bias, None)
        return Raters(factors, bias, np.array([user.head_G for user in users], np.float32).reshape(-1, head.factors))
