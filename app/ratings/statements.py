"""Reads from a ratings store and writes to it. Each function uses the connection that it is given.

A writer first locks the row with the store's revision, so that transactions follow one another in the order
of their revisions. Writing the same changes twice has the effect of writing them once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.errors import RequestKeyError, StoreError
from app.ratings.keys import use_key
from app.ratings.records import Change, Delete, Erase, Put, PutMany, Rating, RequestKey
from app.ratings.tables import deletions, incoming, ratings, replaced, store, users

ROWS = 500  # with which a statement is executed at once: to prepare them takes the event loop 1 ms
MAX_CHANGED = 10_000  # users that are read at once
JUMP = 1_000_000  # revisions, more than a store is changed by between two looks at it


class Written(NamedTuple):
    """The result of some changes: the revision after them, the changed users, and the outcome of each change."""

    revision: int
    users: list[str]
    outcomes: list[int | StoreError]


async def read_id(connection: AsyncConnection) -> str:
    """The id of the ratings store, by which a model's manifest names it."""
    found: str = (await connection.execute(sa.select(store.c.id))).scalar_one()
    return found


async def read_revision(connection: AsyncConnection) -> int:
    """The revision of the ratings store: of the last change of all."""
    found: int = (await connection.execute(sa.select(store.c.revision))).scalar_one()
    return found


class ChangedUser(NamedTuple):
    """A user who was changed: the revision of the last change, and of the last deletion, None if there was none."""

    user: str
    revision: int
    erased: int | None


async def read_changed(connection: AsyncConnection, after: tuple[int, str]) -> list[ChangedUser]:
    """The next users who were changed, at most `MAX_CHANGED`.

    They come in the order of revision and id, after the one that is given: many users may share a revision.
    """
    order = users.c.revision, users.c.user
    later = sa.and_(users.c.revision >= after[0], sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
    query = sa.select(users.c.user, users.c.revision, users.c.erased).where(later).order_by(*order).limit(MAX_CHANGED)
    return [ChangedUser(*row) for row in await connection.execute(query)]


async def read_newest(connection: AsyncConnection, after: int, prefix: str, most: int) -> list[str]:
    """Users changed after a revision, whose id begins with `prefix`: the one with that id, then those changed last."""
    begins = sa.func.substr(users.c.user, 1, len(prefix)) == prefix
    order = (users.c.user != prefix), users.c.revision.desc(), users.c.user
    query = sa.select(users.c.user).where(users.c.revision > after, begins).order_by(*order).limit(most)
    return list((await connection.execute(query)).scalars())


async def outrun(connection: AsyncConnection, revision: int, table: sa.Table = store) -> None:
    """Let the next revisions of ratings, or of another table, be far beyond one, unless somebody has done that.

    No revision is ever given twice.
    """
    raised = sa.update(table).where(table.c.revision < revision + JUMP).values(revision=revision + JUMP)
    await connection.execute(raised)


def jumped(revision: int, known: int) -> bool:
    """Whether somebody has outrun a revision near the one that is known: they may have known some more or fewer."""
    return revision - known >= JUMP // 2


async def put_by_one_statement(connection: AsyncConnection, puts: Sequence[Put]) -> Written:
    """Store ratings in PostgreSQL by one statement, which commits by itself; of two for one pair the later counts."""
    rows = {(put.user, put.rating.item): _row(put.user, put.rating) for put in puts}.values()
    columns = {f"{column.name}s": [row[column.name] for row in rows] for column in ratings.c}
    revision = (await connection.execute(_PUT_BY_ONE, columns)).scalar_one()
    return Written(revision, [*dict.fromkeys(columns["users"])], [revision] * len(puts))


async def write(connection: AsyncConnection, changes: Sequence[Change]) -> Written:
    """Make some changes in the transaction of a connection."""
    revision: int = (await connection.execute(_NEXT_REVISION)).scalar_one()
    last: dict[tuple[str, str], Rating | None] = {}  # of each pair; None where it is deleted
    erased: dict[str, int | None] = {}  # users whose rows go before anything is stored, and the revision
    outcomes: list[int | StoreError] = []
    for change in changes:
        outcome: int | StoreError | None = None
        match change:
            case Put(user, rating):
                last[user, rating.item] = rating
            case Delete(user, item):
                last[user, item] = None
            case Erase(user):
                erased[user] = revision
                last = {pair: rating for pair, rating in last.items() if pair[0] != user}
            case PutMany():
                outcome = await _earlier_outcome(connection, change.key, revision)
                if outcome is None:
                    last |= await asyncio.to_thread(_pairs, change)
        outcomes.append(revision if outcome is None else outcome)
    changed = dict.fromkeys(user for user, _ in last) | erased
    rows_of = partial(_rows_of, _STATEMENTS[connection.dialect.name], revision, last, erased, changed)
    for statement, rows in rows_of() if len(last) <= ROWS else await asyncio.to_thread(rows_of):
        for start in range(0, len(rows), ROWS):
            await connection.execute(statement, rows[start : start + ROWS])
    return Written(revision, [*changed], outcomes)


def _pairs(change: PutMany) -> dict[tuple[str, str], Rating | None]:
    pairs = zip(change.users, change.ratings, strict=True)
    return {(user, rating.item): rating for user, rating in pairs}


def _rows_of(
    statements: _Statements,
    revision: int,
    last: Mapping[tuple[str, str], Rating | None],
    erased: Mapping[str, int | None],
    changed: Mapping[str, int | None],
) -> list[tuple[Any, list[dict[str, Any]]]]:
    """What is executed for some changes: statements, in their order, and the parameters of each."""
    deleted = [{"of": user, "what": item} for (user, item), rating in last.items() if rating is None]
    return [
        *((statement, [{"of": user} for user in erased]) for statement in _ERASE),
        (_DELETE_RATING, deleted),
        (statements.note_deletion, deleted),
        (statements.put, [_row(user, rating) for (user, _), rating in last.items() if rating is not None]),
        (statements.note_change, [{"user": user, "revision": revision, "erased": changed[user]} for user in changed]),
    ]


async def _earlier_outcome(
    connection: AsyncConnection, key: RequestKey | None, revision: int
) -> int | StoreError | None:
    """The outcome of the request when its key was first used; None if it has none, or a new one."""
    try:
        return None if key is None else await use_key(connection, key, revision)
    except RequestKeyError as error:
        return error


def _row(user: str, rating: Rating) -> dict[str, Any]:
    return {"user": user, "item": rating.item, "rating": rating.rating, "timestamp": rating.timestamp}


class _Statements(NamedTuple):
    """Statements that differ between databases."""

    note_deletion: sa.Insert
    put: sa.Insert
    note_change: sa.Insert


def _statements(insert: Callable[[sa.Table], Any]) -> _Statements:
    note_change = insert(users)
    erased = sa.func.coalesce(note_change.excluded.erased, users.c.erased)
    return _Statements(
        insert(deletions).values(user=sa.bindparam("of"), item=sa.bindparam("what")).on_conflict_do_nothing(),
        _in_place(insert(ratings)),
        note_change.on_conflict_do_update(
            index_elements=[users.c.user], set_={"revision": note_change.excluded.revision, "erased": erased}
        ),
    )


def _in_place(put: Any) -> Any:
    """Storing a rating replaces the one before it."""
    replaced = {"rating": put.excluded.rating, "timestamp": put.excluded.timestamp}
    return put.on_conflict_do_update(index_elements=[ratings.c.user, ratings.c.item], set_=replaced)


# They are made once: making a statement takes longer than executing it.
_STATEMENTS = {"postgresql": _statements(postgresql.insert), "sqlite": _statements(sqlite.insert)}
_NEXT_REVISION = sa.update(store).values(revision=store.c.revision + 1).returning(store.c.revision)
_ERASE = [  # `replaced` last: deleting ratings adds to it
    sa.delete(table).where(table.c.user == sa.bindparam("of")) for table in (incoming, ratings, deletions, replaced)
]
_DELETE_RATING = sa.delete(ratings).where(ratings.c.user == sa.bindparam("of"), ratings.c.item == sa.bindparam("what"))
_PUT_BY_ONE = sa.select(
    sa.func.ratecast_put(
        *(
            sa.bindparam(f"{column.name}s", type_=ARRAY(column.type))
            for column in (ratings.c.user, ratings.c.item, ratings.c.rating, ratings.c.timestamp)
        )
    )
)
