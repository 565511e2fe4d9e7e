"""What the store says of items, followed: every worker has it in memory, and the model that answers shows it.

A change makes a view of the model with another catalogue; all else is shared. Whoever answers keeps to the view that
they took, so a list never mixes two states.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import NoReturn

from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.engine.threads import QUICK_ROWS, Worker
from app.ratings.errors import NoStoreError, StoreError
from app.ratings.items import ItemStore
from app.ratings.records import RequestKey
from models.stored_items import StoredItem

LOOK_SECONDS = 0.25

logger = logging.getLogger(__name__)


class StoredItems:
    """Follows and changes the items of a store; `store` is None where the service keeps none."""

    def __init__(self, models: ModelHolder, store: ItemStore | None, worker: Worker) -> None:
        self._models, self._store, self._worker = models, store, worker
        self._known = models.known_items
        self._timed: dict[str, StoredItem] = {}  # those that time shows or hides
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
        return self._known.items.get(id_)

    async def refresh(self) -> None:
        """Show what was changed since the last time, and what has begun or ended. Raises StoreUnavailableError."""
        if self._store is None:
            return
        async with self._lock:
            known, before = self._known, self._known.revision
            changed: dict[str, StoredItem] = {}
            while True:
                revision, items = await self._store.changed_after(known.revision)
                if revision == known.revision:
                    break
                found = {item.id: item for item in items}
                changed.update(found)
                known.items.update(found)
                known.revision = revision
            if changed:
                self._timed = {id_: item for id_, item in (self._timed | changed).items() if item.is_timed}
            for model in self._models.loaded:
                outdated = self._outdated(model, before, changed)
                if outdated or model.items_revision != known.revision:
                    quick = max(len(model.items), len(outdated)) <= QUICK_ROWS
                    view = await self._worker.run(partial(model.with_items, outdated, known.revision), quick=quick)
                    self._models.replace(model, view)  # unless another version came meanwhile, with the items

    def _outdated(self, model: ServingModel, before: int, changed: dict[str, StoredItem]) -> list[StoredItem]:
        """The items that a model may not show as they are; `changed` are those since the revision `before`."""
        if model.items_revision not in (before, self._known.revision):
            return [*self._known.items.values()]
        found = changed if model.items_revision != self._known.revision else {}
        return [*(found | self._timed if time.time() >= model.outdated_at else found).values()]
