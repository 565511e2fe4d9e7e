"""What is known about items and users of the current model: searched for, or by their id."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

from app.engine.explanations import item_row
from app.engine.fresh_users import FreshUsers
from app.engine.search import find_items, find_users
from app.engine.serving_model import ModelHolder
from app.engine.threads import QUICK_ROWS, Threads
from app.engine.types import Choice, FoundItems, FoundUsers, Genres, ItemDetails

T = TypeVar("T")


class CatalogueSearch:
    """Searches the current model's items, users and genres; a large table on a thread."""

    def __init__(self, models: ModelHolder, fresh_users: FreshUsers, threads: Threads) -> None:
        self._models = models
        self._fresh_users = fresh_users
        self._threads = threads

    async def item(self, id_: str) -> ItemDetails:
        """What is known about an item. Raises UnknownItemError."""
        served = self._models.current
        (record,) = served.checkpoint.catalogue.slice(item_row(served, id_), 1).to_pylist()
        return ItemDetails(**record, version=served.version)

    async def find_items(self, query: str, n: int, choice: Choice) -> FoundItems:
        """Items by their title, best match first. Raises DeadlineExceededError."""
        served = self._models.current
        return await self._search(served.checkpoint.items, lambda: find_items(served, query, n, choice))

    async def find_users(self, prefix: str, n: int) -> FoundUsers:
        """Users by the beginning of their id; nobody who was erased.

        Raises DeadlineExceededError or StoreUnavailableError.
        """
        served = self._models.current
        found = await self._search(served.checkpoint.users, lambda: find_users(served, prefix, n))
        usable = await self._fresh_users.with_usable_rows(served, [user.id for user in found])
        return FoundUsers([user for user in found if user.id in usable], served.version)

    async def genres(self) -> Genres:
        """The genres of the items, those of the most items first. Raises DeadlineExceededError."""
        served = self._models.current
        return Genres(await self._search(served.checkpoint.items, served.genres), served.version)

    async def _search(self, table: Sized, work: Callable[[], T]) -> T:
        return await self._threads.run(work, quick=len(table) <= QUICK_ROWS, thread=self._threads.search)
