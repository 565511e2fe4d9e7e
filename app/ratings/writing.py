"""Several changes as one transaction of a ratings store.

The row that holds the store's revision is locked first, so that transactions follow one another in the order of their
revisions. Doing all of it twice has the effect of doing it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings import postgres_upsert
from app.ratings.errors import RequestKeyError, StoreError
from app.ratings.records import Change, Delete, Erase, Put, PutMany, Rating
from app.ratings.tables import deletions, ratings, requests, store, users

KEYS_KEPT = 7 * 86_400  # seconds for which a request key is known


class Written(NamedTuple):
    """What came of some changes: the revision after them, the users who were changed, and the outcome of each."""

    revision: int
    users: list[str]
    outcomes: list[int | StoreError]


async def put_by_one_statement(connection: AsyncConnection, puts: Sequence[Put]) -> Written:
    """Store ratings in PostgreSQL. Of two for one pair the later stays."""
    last = {(put.user, put.rating.item): (put.user, *astuple(put.rating)) for put in puts}
    revision = await postgres_upsert.put(connection, last.values())
    return Written(revision, [*{put.user: None for put in puts}], [revision] * len(puts))


async def write(connection: AsyncConnection, changes: Sequence[Change]) -> Written:
    """Make some changes in the transaction of a connection."""
    revision: int = (await connection.execute(_NEXT_REVISION)).scalar_one()
    plan = _Plan()
    outcomes: list[int | StoreError] = []
    for change in changes:
        outcome: int | StoreError = revision
        match change:
            case Put():
                plan.put(change.user, change.rating)
            case Delete():
                plan.delete(change.user, change.item)
            case Erase():
                plan.erase(change.user)
            case PutMany():
                earlier = await _earlier_outcome(connection, change, revision)
                if earlier is None:
                    for user, rating in zip(change.users, change.ratings, strict=True):
                        plan.put(user, rating)
                else:
                    outcome = earlier
        outcomes.append(outcome)
    await _carry_out(connection, plan, revision)
    return Written(revision, [*plan.changed], outcomes)


@dataclass(slots=True)
class _Plan:
    """What some changes come to, one after the other: the last one of each pair, and whom to erase first."""

    puts: dict[tuple[str, str], Rating] = field(default_factory=dict)
    deletions: set[tuple[str, str]] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    changed: dict[str, None] = field(default_factory=dict)

    def put(self, user: str, rating: Rating) -> None:
        self.changed[user] = None
        self.deletions.discard((user, rating.item))
        self.puts[user, rating.item] = rating

    def delete(self, user: str, item: str) -> None:
        self.changed[user] = None
        self.puts.pop((user, item), None)
        self.deletions.add((user, item))

    def erase(self, user: str) -> None:
        self.changed[user] = None
        self.erased.add(user)
        self.puts = {pair: rating for pair, rating in self.puts.items() if pair[0] != user}
        self.deletions = {pair for pair in self.deletions if pair[0] != user}


async def _earlier_outcome(connection: AsyncConnection, change: PutMany, revision: int) -> int | StoreError | None:
    """What came of the request when its key was first used; None where that is now, and then the key is noted."""
    if change.key is None:
        return None
    query = sa.select(requests.c.fingerprint, requests.c.revision).where(requests.c.key == change.key)
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        now = int(time.time())
        await connection.execute(sa.delete(requests).where(requests.c.created < now - KEYS_KEPT))
        row = {"key": change.key, "fingerprint": change.fingerprint, "revision": revision, "created": now}
        await connection.execute(sa.insert(requests), [row])
        return None
    if found.fingerprint != change.fingerprint:
        return RequestKeyError("the Idempotency-Key was used for another request")
    first: int = found.revision
    return first


async def _carry_out(connection: AsyncConnection, plan: _Plan, revision: int) -> None:
    statements = _STATEMENTS[connection.dialect.name]
    if plan.erased:
        for statement in _ERASE_USER:
            await connection.execute(statement, [{"of": user} for user in plan.erased])
    if plan.deletions:
        pairs = [{"of": user, "what": item} for user, item in plan.deletions]
        await connection.execute(_DELETE_RATING, pairs)
        deleted = [{"user": user, "item": item} for user, item in plan.deletions]
        await connection.execute(statements.note_deletion, deleted)
    if plan.puts:
        rows = [
            {"user": user, "item": item, "rating": rating.rating, "timestamp": rating.timestamp}
            for (user, item), rating in plan.puts.items()
        ]
        await connection.execute(statements.put, rows)
    if plan.changed:
        rows = [
            {"user": user, "revision": revision, "erased": revision if user in plan.erased else None}
            for user in plan.changed
        ]
        await connection.execute(statements.note_change, rows)


class _Statements(NamedTuple):
    """Statements that differ between databases. They are made once: making one takes longer than executing it."""

    note_deletion: sa.Insert
    put: sa.Insert
    note_change: sa.Insert


def _statements(insert: Callable[[sa.Table], Any]) -> _Statements:
    put, note_change = insert(ratings), insert(users)
    return _Statements(
        insert(deletions).on_conflict_do_nothing(),
        put.on_conflict_do_update(
            index_elements=[ratings.c.user, ratings.c.item],
            set_={"rating": put.excluded.rating, "timestamp": put.excluded.timestamp},
        ),
        note_change.on_conflict_do_update(
            index_elements=[users.c.user],
            set_={
                "revision": note_change.excluded.revision,
                "erased": sa.func.coalesce(note_change.excluded.erased, users.c.erased),
            },
        ),
    )


_STATEMENTS = {"postgresql": _statements(postgresql.insert), "sqlite": _statements(sqlite.insert)}
_NEXT_REVISION = sa.update(store).values(revision=store.c.revision + 1).returning(store.c.revision)
_ERASE_USER = [sa.delete(table).where(table.c.user == sa.bindparam("of")) for table in (ratings, deletions)]
_DELETE_RATING = sa.delete(ratings).where(ratings.c.user == sa.bindparam("of"), ratings.c.item == sa.bindparam("what"))
