"""Reads from a ratings store and writes to it. Each function uses the connection that it is given.

A writer first locks the row with the store's revision, so that transactions follow one another in the order
of their revisions. Writing the same changes twice has the effect of writing them once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.arrivals import ERASE_INCOMING, NOTE_INCOMING, note_given
from app.ratings.errors import RequestKeyError, StoreError
from app.ratings.keys import use_key
from app.ratings.records import Change, Delete, Erase, Put, PutMany, Rating, RequestKey, StoredUser
from app.ratings.tables import deletions, ratings, store, users

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


async def read_changed(connection: AsyncConnection, after: tuple[int, str]) -> list[tuple[str, int]]:
    """The next users who were changed, and the revision of each one's last change; at most `MAX_CHANGED`.

    They come in the order of revision and id, after the one that is given: many users may share a revision.
    """
    order = users.c.revision, users.c.user
    later = sa.and_(users.c.revision >= after[0], sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
    query = sa.select(users.c.user, users.c.revision).where(later).order_by(*order).limit(MAX_CHANGED)
    return [(user, revision) for user, revision in await connection.execute(query)]


async def read_users(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, StoredUser]:
    """The records of those of some users that have one."""
    found = list(await connection.execute(_USERS, {"ids": ids}))
    given: dict[str, list[Rating]] = defaultdict(list)
    for user, item, rating, timestamp in await connection.execute(_RATINGS, {"ids": ids}):
        given[user].append(Rating(item, rating, timestamp))
    deleted: dict[str, set[str]] = defaultdict(set)
    for user, item in await connection.execute(_DELETIONS, {"ids": ids}):
        deleted[user].add(item)
    return {
        user: StoredUser(
            revision, erased or 0, tuple(given[user]), frozenset(deleted[user] - {one.item for one in given[user]})
        )
        for user, revision, erased in found
    }


async def outrun(connection: AsyncConnection, revision: int) -> None:
    """Let the next revisions be far beyond one, unless somebody has done that: no revision is ever given twice."""
    raised = sa.update(store).where(store.c.revision < revision + JUMP).values(revision=revision + JUMP)
    await connection.execute(raised)


async def put_by_one_statement(connection: AsyncConnection, puts: Sequence[Put]) -> Written:
    """Store ratings in PostgreSQL by one statement, which commits by itself; of two for one pair the later counts."""
    rows = {(put.user, put.rating.item): _row(put.user, put.rating) for put in puts}.values()
    columns = {column.name: [row[column.name] for row in rows] for column in ratings.c}
    changed = [*dict.fromkeys(columns["user"])]
    revision = (await connection.execute(_PUT_BY_ONE, columns | {"everybody": changed})).scalar_one()
    return Written(revision, changed, [revision] * len(puts))


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
                    pairs = zip(change.users, change.ratings, strict=True)
                    last |= {(user, rating.item): rating for user, rating in pairs}
        outcomes.append(revision if outcome is None else outcome)
    changed = dict.fromkeys(user for user, _ in last) | erased
    statements = _STATEMENTS[connection.dialect.name]
    deleted = [{"of": user, "what": item} for (user, item), rating in last.items() if rating is None]
    arriving = [(pair, rating) for pair, rating in last.items() if rating is not None]
    for statement, rows in (
        (ERASE_INCOMING, [{"of": user} for user in erased]),
        (_ERASE_RATINGS, [{"of": user} for user in erased]),
        (_ERASE_DELETIONS, [{"of": user} for user in erased]),
        (NOTE_INCOMING, [_row(user, rating) | {"revision": revision} for (user, _), rating in arriving]),
        (_DELETE_RATING, deleted),
        (statements.note_deletion, deleted),
        (statements.put, [_row(user, rating) for (user, _), rating in arriving]),
        (statements.note_change, [{"user": user, "revision": revision, "erased": changed[user]} for user in changed]),
    ):
        if rows:
            await connection.execute(statement, rows)
    return Written(revision, [*changed], outcomes)


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


def _put_by_one() -> sa.Select[int]:
    """Takes columns of distinct pairs, and `everybody`, the distinct users; returns the revision."""
    given = (
        sa.func.unnest(
            *(sa.bindparam(column.name, type_=ARRAY(column.type)) for column in ratings.c), type_=sa.types.NULLTYPE
        )
        .table_valued(*(sa.column(column.name, column.type) for column in ratings.c), name="given")
        .render_derived()
    )
    everybody = (
        sa.func.unnest(sa.bindparam("everybody", type_=ARRAY(sa.Text)))
        .table_valued(sa.column("user", sa.Text), name="everybody")
        .render_derived()
    )
    bumped = _NEXT_REVISION.cte("bumped")
    # Joined with the new revision, so that nothing is written before the row is locked.
    put = _in_place(postgresql.insert(ratings).from_select([*ratings.c], sa.select(*given.c).join(bumped, sa.true())))
    touch = postgresql.insert(users).from_select(
        [users.c.user, users.c.revision], sa.select(everybody.c.user, bumped.c.revision).join(bumped, sa.true())
    )
    touch = touch.on_conflict_do_update(index_elements=[users.c.user], set_={"revision": touch.excluded.revision})
    return sa.select(bumped.c.revision).add_cte(
        note_given(given, bumped).cte("noted"), put.cte("put"), touch.cte("touched")
    )


def _of_users(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).where(table.c.user.in_(sa.bindparam("ids", expanding=True)))


# They are made once: making a statement takes longer than executing it.
_USERS, _DELETIONS = _of_users(users), _of_users(deletions)
_RATINGS = _of_users(ratings).order_by(ratings.c.user, ratings.c.item)
_STATEMENTS = {"postgresql": _statements(postgresql.insert), "sqlite": _statements(sqlite.insert)}
_NEXT_REVISION = sa.update(store).values(revision=store.c.revision + 1).returning(store.c.revision)
_ERASE_RATINGS, _ERASE_DELETIONS = (
    sa.delete(table).where(table.c.user == sa.bindparam("of")) for table in (ratings, deletions)
)
_DELETE_RATING = sa.delete(ratings).where(ratings.c.user == sa.bindparam("of"), ratings.c.item == sa.bindparam("what"))
_PUT_BY_ONE = _put_by_one()
