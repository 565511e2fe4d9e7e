"""What is known of items, in the store: each change has a number, by which every worker and replica follows.

An item that is deleted keeps a row that says so, for those who follow. It does not know which items a model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.database import ANSWER_SECONDS, BULK_SECONDS, Database
from app.ratings.keys import use_key
from app.ratings.records import RequestKey
from app.ratings.tables import catalogue, items
from models.stored_items import StoredItem

READ_AT_ONCE = 20_000
WRITTEN_AT_ONCE = 500


class ItemStore:
    """The items of a store. Every method raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(self, changed: Sequence[StoredItem], key: RequestKey | None = None) -> None:
        """Store some items, each in place of what was there, in one transaction; of two of one id the later stays.

        What a request asks whose key was used before is not stored again. Raises RequestKeyError too.
        """
        seconds = ANSWER_SECONDS if len(changed) == 1 else BULK_SECONDS
        await self._database.transact(partial(_write, changed={item.id: item for item in changed}, key=key), seconds)

    async def of(self, id_: str) -> StoredItem | None:
        """What is known of an item; None where nothing is."""
        return await self._database.read(partial(_read_one, id_=id_))

    async def changed_after(self, revision: int) -> tuple[int, list[StoredItem]]:
        """Items that were changed after a revision, and the revision that these lead to."""
        return await self._database.read(partial(_read_changed, after=revision))


async def _read_one(connection: AsyncConnection, id_: str) -> StoredItem | None:
    found = (await connection.execute(sa.select(items).where(items.c.item == id_))).one_or_none()
    return None if found is None else StoredItem.of_row(found)


async def _read_changed(connection: AsyncConnection, after: int) -> tuple[int, list[StoredItem]]:
    """Whole revisions: all items of the last one are there, whatever their number."""
    latest: int = (await connection.execute(sa.select(catalogue.c.revision))).scalar_one()
    if latest == after:
        return latest, []
    bound = sa.select(items.c.revision).where(items.c.revision > after).order_by(items.c.revision)
    last = (await connection.execute(bound.offset(READ_AT_ONCE).limit(1))).scalar_one_or_none() or latest
    rows = await connection.execute(sa.select(items).where(items.c.revision > after, items.c.revision <= last))
    return last, [StoredItem.of_row(row) for row in rows]


async def _write(connection: AsyncConnection, changed: dict[str, StoredItem], key: RequestKey | None) -> None:
    revision: int = (await connection.execute(_NEXT)).scalar_one()
    if key is not None and await use_key(connection, key, revision) is not None:
        return
    rows = [item.to_row() | {"revision": revision} for item in changed.values()]
    for at in range(0, len(rows), WRITTEN_AT_ONCE):
        await connection.execute(_PUT[connection.dialect.name], rows[at : at + WRITTEN_AT_ONCE])


def _putting(put: Any) -> Any:
    replaced = {column.name: put.excluded[column.name] for column in items.c if column.name != "item"}
    return put.on_conflict_do_update(index_elements=[items.c.item], set_=replaced)


_NEXT = sa.update(catalogue).values(revision=catalogue.c.revision + 1).returning(catalogue.c.revision)
_PUT = {"postgresql": _putting(postgresql.insert(items)), "sqlite": _putting(sqlite.insert(items))}
