"""What the store says of items, followed: every worker has it in memory, and the model that answers shows it.

A change makes a view of the model with another catalogue; all else is shared. Whoever answers keeps to the view that
they took, so a list never mixes two states.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

import pyarrow as pa

from app.engine.known_items import KnownItems
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.engine.threads import QUICK_ROWS, Worker
from app.ratings.errors import NoStoreError, StoreError
from app.ratings.items import ItemStore
from app.ratings.records import RequestKey
from models.errors import UnknownItemError
from models.stored_items import COLUMNS, StoredItem, newest, timed

LOOK_SECONDS = 0.25
STEP_SECONDS = 1.0  # by which a clock may be set back without a look at all items
T = TypeVar("T")

logger = logging.getLogger(__name__)


class StoredItems:
    """Follows and changes the items of a store; `store` is None where the service keeps none."""

    def __init__(self, models: ModelHolder, store: ItemStore | None, worker: Worker) -> None:
        self._models, self._store, self._worker = models, store, worker
        self._reading = 0  # as `ItemStore` counts
        self._timed = COLUMNS.empty_table()  # those that time shows or hides
        self._lock = asyncio.Lock()  # one applies changes at a time

    async def start(self) -> None:
        """Read all that is stored, and show it. While the store is unreachable, `follow` does so later."""
        try:
            await self.refresh()
        except StoreError as error:
            logger.debug("What is stored of items cannot be read now: %s", error)

    async def follow(self) -> NoReturn:
        """Show what others change and what time changes, for ever. No failure ends it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.refresh()
            except StoreError as error:
                logger.debug("What is stored of items cannot be read now: %s", error)
            except Exception:
                logger.exception("Following the stored items failed; retrying")

    async def change(self, changed: list[StoredItem], key: RequestKey | None = None) -> None:
        """Make changes durable, and show them; those of a request whose key was used before are not made again.

        Raises NoStoreError, RequestKeyError or StoreUnavailableError.
        """
        if self._store is None:
            raise NoStoreError("this service has no store, so it keeps no items")
        await self._store.change(changed, key)
        await self.refresh()

    async def patch(self, id_: str, patched: Callable[[StoredItem], StoredItem]) -> None:
        """Store an item as it is `patched` from what is known of it, and show it. Nobody changes it between the two.

        Raises UnknownItemError for one that nothing is known of, what `patched` raises, and as `change`.
        """
        if self._store is None:
            raise NoStoreError("this service has no store, so it keeps no items")
        published = self._models.current.published_item(id_)

        def of_known(stored: StoredItem | None) -> StoredItem:
            known = published if stored is None else stored
            if known is None or known.deleted:
                raise UnknownItemError(id_)
            return patched(known)

        await self._store.patch(id_, of_known)
        await self.refresh()

    async def of(self, id_: str) -> StoredItem | None:
        """What the store says of an item, None where it says nothing. Raises as `change`."""
        if self._store is None:
            raise NoStoreError("this service has no store, so it keeps no items")
        return await self._store.of(id_)

    def known(self, id_: str) -> StoredItem | None:
        """The same, as far as this worker has followed."""
        return self._models.known_items.get(id_)

    async def refresh(self) -> None:
        """Show what was changed since the last time, and what has begun or ended. Raises StoreUnavailableError."""
        if self._store is None:
            return
        async with self._lock:
            before, changed = self._models.known_items, None
            try:
                changed = await self._read(self._store)
            finally:  # time goes on while the store is unreachable
                for model in self._models.loaded:
                    await self._show(model, before, changed)

    async def _read(self, store: ItemStore) -> pa.Table | None:
        """Read what was changed since the last time, and give it; None where everything was read anew."""
        before = self._models.known_items
        revision, changed, reading = await store.changed_after(before.revision, self._reading)
        anew = reading != self._reading
        if anew:
            known = await self._run(partial(KnownItems.of, changed, revision), len(changed))
            self._timed = timed(known.table)
        elif revision != before.revision:
            known = await self._run(partial(before.with_changes, changed, revision), len(before) + len(changed))
            self._timed = timed(newest(pa.concat_tables([self._timed, changed])))
        else:
            return changed
        self._models.known_items, self._reading = known, reading
        return None if anew else changed

    async def _show(self, model: ServingModel, before: KnownItems, changed: pa.Table | None) -> None:
        """Let a model show the items as they are now; `changed` are those since `before`, None if unknown."""
        known, now = self._models.known_items, time.time()
        if not known and not model.known_items:  # nothing is stored
            return
        if now < model.shown_at - STEP_SECONDS:  # the clock was set back
            outdated = None
        elif model.known_items is known:
            if now < model.outdated_at:
                return
            outdated = self._timed
        elif model.known_items is before and changed is not None:
            outdated = newest(pa.concat_tables([changed, self._timed])) if now >= model.outdated_at else changed
        else:
            outdated = None
        rows = max(len(model.items), len(known) if outdated is None else len(outdated))
        view = await self._run(partial(model.with_items, known, now, outdated), rows)
        self._models.replace(model, view)  # unless another version came meanwhile, with the items

    async def _run(self, work: Callable[[], T], rows: int) -> T:
        return await self._worker.run_unlimited(work, quick=rows <= QUICK_ROWS)
