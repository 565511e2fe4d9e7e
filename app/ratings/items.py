"""What is known of items, in the store: each change has a number, by which every worker and replica follows.

An item that is deleted keeps a row that says so, for those who follow. It does not know which items a model has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.database import ANSWER_SECONDS, BULK_SECONDS, Database
from app.ratings.tables import catalogue, items

READ_AT_ONCE = 20_000
WRITTEN_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What the store says of an item; times are seconds since 1970, None where there is no bound."""

    id: str
    title: str | None = None
    year: int | None = None
    genres: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    hidden: bool = False
    available_from: int | None = None
    available_until: int | None = None
    deleted: bool = False

    def is_shown(self, now: float) -> bool:
        """Whether it may be in lists at a time."""
        begun = self.available_from is None or self.available_from <= now
        return begun and not self.hidden and not self.deleted and not self._ended(now)

    def _ended(self, now: float) -> bool:
        return self.available_until is not None and self.available_until <= now

    def next_change(self, now: float) -> float:
        """When it appears or disappears by itself next; infinite where it does not."""
        return min((at for at in (self.available_from, self.available_until) if at and at > now), default=float("inf"))


class ItemStore:
    """The items of a store. Every method raises StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(self, changed: Sequence[StoredItem]) -> None:
        """Store some items, each in place of what was there, in one transaction; of two of one id the later stays."""
        seconds = ANSWER_SECONDS if len(changed) == 1 else BULK_SECONDS
        await self._database.transact(partial(_write, changed={item.id: item for item in changed}), seconds)

    async def of(self, id_: str) -> StoredItem | None:
        """What is known of an item; None where nothing is."""
        return await self._database.read(partial(_read_one, id_=id_))

    async def changed_after(self, revision: int) -> tuple[int, list[StoredItem]]:
        """Items that were changed after a revision, and the revision that these lead to."""
        return await self._database.read(partial(_read_changed, after=revision))


async def _read_one(connection: AsyncConnection, id_: str) -> StoredItem | None:
    found = (await connection.execute(sa.select(items).where(items.c.item == id_))).one_or_none()
    return None if found is None else _item(found)


async def _read_changed(connection: AsyncConnection, after: int) -> tuple[int, list[StoredItem]]:
    """Whole revisions: all items of the last one are there, whatever their number."""
    latest: int = (await connection.execute(sa.select(catalogue.c.revision))).scalar_one()
    if latest == after:
        return latest, []
    bound = sa.select(items.c.revision).where(items.c.revision > after).order_by(items.c.revision)
    last = (await connection.execute(bound.offset(READ_AT_ONCE).limit(1))).scalar_one_or_none() or latest
    rows = await connection.execute(sa.select(items).where(items.c.revision > after, items.c.revision <= last))
    return last, [_item(row) for row in rows]


async def _write(connection: AsyncConnection, changed: dict[str, StoredItem]) -> None:
    revision: int = (await connection.execute(_NEXT)).scalar_one()
    rows = [_row(item) | {"revision": revision} for item in changed.values()]
    for at in range(0, len(rows), WRITTEN_AT_ONCE):
        await connection.execute(_PUT[connection.dialect.name], rows[at : at + WRITTEN_AT_ONCE])


def _row(item: StoredItem) -> dict[str, Any]:
    fields = ("title", "year", "hidden", "available_from", "available_until", "deleted")
    lists = {"genres": item.genres, "labels": item.labels}
    texts = {name: None if value is None else json.dumps(value) for name, value in lists.items()}
    return {"item": item.id, **{name: getattr(item, name) for name in fields}, **texts}


def _item(row: Any) -> StoredItem:
    genres, labels = (None if text is None else tuple(json.loads(text)) for text in (row.genres, row.labels))
    times = row.available_from, row.available_until
    return StoredItem(row.item, row.title, row.year, genres, labels, bool(row.hidden), *times, bool(row.deleted))


def _putting(put: Any) -> Any:
    replaced = {column.name: put.excluded[column.name] for column in items.c if column.name != "item"}
    return put.on_conflict_do_update(index_elements=[items.c.item], set_=replaced)


_NEXT = sa.update(catalogue).values(revision=catalogue.c.revision + 1).returning(catalogue.c.revision)
_PUT = {"postgresql": _putting(postgresql.insert(items)), "sqlite": _putting(sqlite.insert(items))}
