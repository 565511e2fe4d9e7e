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
from models.stored_items import COLUMNS, StoredItem, newest, timed

LOOK_SECONDS = 0.25
T = TypeVar("T")

logger = logging.getLogger(__name__)


class StoredItems:
    """Follows and changes the items of a store; `store` is None where the service keeps none."""

    def __init__(self, models: ModelHolder, store: ItemStore | None, worker: Worker) -> None:
        self._models, self._store, self._worker = models, store, worker
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
            known = before = self._models.known_items
            revision, changed = await self._store.changed_after(before.revision)
            if revision != before.revision:
                known = await self._run(partial(before.with_changes, changed, revision), len(before) + len(changed))
                self._models.known_items = known
                self._timed = timed(newest(pa.concat_tables([self._timed, changed])))
            for model in self._models.loaded:
                outdated = self._outdated(model, before, changed)
                if len(outdated) or model.items_revision != known.revision:
                    rows = max(len(model.items), len(outdated))
                    view = await self._run(partial(model.with_items, outdated, known.revision), rows)
                    self._models.replace(model, view)  # unless another version came meanwhile, with the items

    def _outdated(self, model: ServingModel, before: KnownItems, changed: pa.Table) -> pa.Table:
        """The items that a model may not show as they are; `changed` are those since `before`."""
        known = self._models.known_items
        if model.items_revision not in (before.revision, known.revision):
            return known.all()
        found = changed if model.items_revision != known.revision else changed.slice(0, 0)
        return newest(pa.concat_tables([found, self._timed])) if time.time() >= model.outdated_at else found

    async def _run(self, work: Callable[[], T], rows: int) -> T:
        return await self._worker.run(work, quick=rows <= QUICK_ROWS)
