"""What is known about items and users of the current model: searched for, or by their id."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

from app.engine.explanations import item_row
from app.engine.model_holder import ModelHolder
from app.engine.rating_history import RatingHistory
from app.engine.search import find_items, find_users
from app.engine.threads import QUICK_ROWS, Threads
from app.engine.types import FoundItems, FoundUsers, Genres, ItemDetails, ItemFilter

T = TypeVar("T")


class CatalogueSearch:
    """Searches the current model's items, users and genres; a large table on a thread."""

    def __init__(self, models: ModelHolder, history: RatingHistory, threads: Threads) -> None:
        self._models = models
        self._history = history
        self._threads = threads

    async def item(self, id_: str) -> ItemDetails:
        """What is known about an item. Raises UnknownItemError."""
        model = self._models.current
        return ItemDetails(**model.catalogue.record(item_row(model, id_)), version=model.version)

    async def find_items(self, query: str, n: int, wanted: ItemFilter) -> FoundItems:
        """Items by their title, best match first. Raises DeadlineExceededError."""
        model = self._models.current
        return await self._search(model.items, lambda: find_items(model, query, n, wanted))

    async def find_users(self, prefix: str, n: int) -> FoundUsers:
        """Users by the beginning of their id; nobody who was erased.

        Raises DeadlineExceededError or StoreUnavailableError.
        """
        model = self._models.current
        found = await self._search(model.users, lambda: find_users(model, prefix, n))
        stored = await self._history.stored([user.id for user in found])
        usable = [user for user in found if self._history.may_use_row(model, stored[user.id])]
        return FoundUsers(usable, model.version)

    async def genres(self) -> Genres:
        """The genres of the items, those of the most items first. Raises DeadlineExceededError."""
        model = self._models.current
        return Genres(await self._search(model.items, lambda: model.catalogue.genres), model.version)

    async def _search(self, table: Sized, work: Callable[[], T]) -> T:
        return await self._threads.run(work, quick=len(table) <= QUICK_ROWS, thread=self._threads.search)
