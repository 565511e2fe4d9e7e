"""What is known of items, in the store: each change has a number, by which every worker and replica follows.

An item that is deleted keeps a row that says so, for those who follow. It does not know which items a model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.database import ANSWER_SECONDS, BULK_SECONDS, Database
from app.ratings.keys import use_key
from app.ratings.records import RequestKey
from app.ratings.tables import catalogue, items
from models.stored_items import COLUMNS, StoredItem, of_rows

READ_AT_ONCE = 4_000  # a million rows: 1.6 s of CPU time; 50,000 at once 3.0 s
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

    async def changed_after(self, revision: int) -> tuple[int, pa.Table]:
        """The revision of the store, and the items that were changed since another one, perhaps some of later ones."""
        latest = await self._database.read(_read_revision)
        if latest == revision:
            return latest, COLUMNS.empty_table()
        return latest, await self._database.read(partial(_read_changed, after=revision), BULK_SECONDS)


async def _read_one(connection: AsyncConnection, id_: str) -> StoredItem | None:
    found = (await connection.execute(sa.select(items).where(items.c.item == id_))).one_or_none()
    return None if found is None else StoredItem.of_row(found)


async def _read_revision(connection: AsyncConnection) -> int:
    found: int = (await connection.execute(sa.select(catalogue.c.revision))).scalar_one()
    return found


async def _read_changed(connection: AsyncConnection, after: int) -> pa.Table:
    """Rows become columns while they are read. The statement names no types, so that SQLAlchemy converts nothing."""
    streaming = await connection.stream(_CHANGED, {"after": after}, execution_options={"yield_per": READ_AT_ONCE})
    return pa.concat_tables(
        [COLUMNS.empty_table(), *[of_rows(rows) async for rows in streaming.partitions(READ_AT_ONCE)]]
    )


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


_UNTYPED: list[sa.ColumnClause[Any]] = [sa.column(column.name) for column in items.c[:9]]
_CHANGED = sa.select(*_UNTYPED).select_from(sa.table(items.name)).where(sa.column("revision") > sa.bindparam("after"))
_NEXT = sa.update(catalogue).values(revision=catalogue.c.revision + 1).returning(catalogue.c.revision)
_PUT = {"postgresql": _putting(postgresql.insert(items)), "sqlite": _putting(sqlite.insert(items))}
