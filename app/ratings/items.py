"""What is known of items, in the store: each change has a number, by which every worker and replica follows.

An item that is deleted keeps a row that says so, for those who follow. It does not know which items a model has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.database import ANSWER_SECONDS, BULK_SECONDS, Database
from app.ratings.keys import use_key
from app.ratings.records import RequestKey
from app.ratings.statements import jumped, outrun
from app.ratings.tables import catalogue, items, store
from models.stored_items import COLUMNS, StoredItem, of_rows

READ_AT_ONCE = 4_000  # a million rows: 1.6 s of CPU time; 50,000 at once 3.0 s
WRITTEN_AT_ONCE = 500

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """Items that were changed, and the revision of the store; they are all that it has where `reading` is another."""

    revision: int
    changed: pa.Table
    reading: int


class ItemStore:
    """The items of a store. Every method raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._id: str | None = None  # of the store that was read last
        self._reading = 0  # how often all is to be read anew

    async def change(self, changed: Sequence[StoredItem], key: RequestKey | None = None) -> None:
        """Store some items, each in place of what was there, in one transaction; of two of one id the later stays.

        What a request asks whose key was used before is not stored again. Raises RequestKeyError too.
        """
        seconds = ANSWER_SECONDS if len(changed) == 1 else BULK_SECONDS
        await self._database.transact(partial(_write, changed={item.id: item for item in changed}, key=key), seconds)

    async def of(self, id_: str) -> StoredItem | None:
        """What is known of an item; None where nothing is."""
        return await self._database.read(partial(_read_one, id_=id_))

    async def patch(self, id_: str, patched: Callable[[StoredItem | None], StoredItem]) -> None:
        """Store an item as it is `patched` from what is known of it. Nobody changes it between the two.

        What `patched` raises ends it, and nothing is stored.
        """
        await self._database.transact(partial(_patch, id_=id_, patched=patched), ANSWER_SECONDS)

    def begin_anew(self) -> None:
        """What was read may be of another state of the database: let all be read again."""
        self._reading += 1

    async def changed_after(self, revision: int, reading: int = 0) -> Found:
        """The items that were changed since what was read last, perhaps some of later revisions.

        All of them, in another reading, where the database is another one or was restored from a copy. No revision
        comes again then.
        """
        latest, id_ = await self._database.read(_read_state)
        if self._id is not None and (id_ != self._id or latest < revision):
            logger.warning("The items in the ratings store are at another state: it was restored from a copy")
            self.begin_anew()
            await self._database.transact(partial(outrun, revision=revision, table=catalogue), ANSWER_SECONDS)
            latest, id_ = await self._database.read(_read_state)
        elif jumped(latest, revision):  # another worker saw that
            self.begin_anew()
        self._id, current = id_, self._reading
        if latest == revision and current == reading:
            return Found(latest, COLUMNS.empty_table(), current)
        after = revision if current == reading else -1
        return Found(latest, await self._database.read(partial(_read_changed, after=after), BULK_SECONDS), current)


async def _read_one(connection: AsyncConnection, id_: str) -> StoredItem | None:
    found = (await connection.execute(sa.select(items).where(items.c.item == id_))).one_or_none()
    return None if found is None else StoredItem.of_row(found)


async def _read_state(connection: AsyncConnection) -> tuple[int, str]:
    """The revision of the items, and the id of the store."""
    revision, id_ = (await connection.execute(_STATE)).one()
    return revision, id_


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
    await _put(connection, [*changed.values()], revision)


async def _patch(connection: AsyncConnection, id_: str, patched: Callable[[StoredItem | None], StoredItem]) -> None:
    revision: int = (await connection.execute(_NEXT)).scalar_one()  # which locks out other writers
    await _put(connection, [patched(await _read_one(connection, id_))], revision)


async def _put(connection: AsyncConnection, changed: Sequence[StoredItem], revision: int) -> None:
    for at in range(0, len(changed), WRITTEN_AT_ONCE):
        rows = [item.to_row() | {"revision": revision} for item in changed[at : at + WRITTEN_AT_ONCE]]
        await connection.execute(_PUT[connection.dialect.name], rows)


def _putting(put: Any) -> Any:
    replaced = {column.name: put.excluded[column.name] for column in items.c if column.name != "item"}
    return put.on_conflict_do_update(index_elements=[items.c.item], set_=replaced)


_UNTYPED: list[sa.ColumnClause[Any]] = [sa.column(column.name) for column in items.c[:9]]
_CHANGED = sa.select(*_UNTYPED).select_from(sa.table(items.name)).where(sa.column("revision") > sa.bindparam("after"))
_STATE = sa.select(catalogue.c.revision, store.c.id).join_from(catalogue, store, sa.true())  # one row each
_NEXT = sa.update(catalogue).values(revision=catalogue.c.revision + 1).returning(catalogue.c.revision)
_PUT = {"postgresql": _putting(postgresql.insert(items)), "sqlite": _putting(sqlite.insert(items))}
