"""What is read from a ratings store, each function on a connection that it is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.records import Rating, StoredUser
from app.ratings.tables import deletions, ratings, store, users

MAX_CHANGED = 10_000  # users who are read at once


def _of_users(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).where(table.c.user.in_(sa.bindparam("ids", expanding=True)))


_USERS, _DELETIONS = _of_users(users), _of_users(deletions)
_RATINGS = _of_users(ratings).order_by(ratings.c.user, ratings.c.item)


async def read_id(connection: AsyncConnection) -> str:
    """The id of the ratings store, by which a model's manifest names it."""
    found: str = (await connection.execute(sa.select(store.c.id))).scalar_one()
    return found


async def read_changed(connection: AsyncConnection, since: int) -> list[tuple[str, int]]:
    """Users who were changed after a revision, and the revision of each one's last change; at most `MAX_CHANGED`."""
    query = (
        sa.select(users.c.user, users.c.revision)
        .where(users.c.revision > since)
        .order_by(users.c.revision)
        .limit(MAX_CHANGED)
    )
    return [(user, revision) for user, revision in await connection.execute(query)]


async def read_users(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, StoredUser]:
    """What is known of those of some users who are known."""
    found = {row.user: row for row in await connection.execute(_USERS, {"ids": ids})}
    given: dict[str, list[Rating]] = defaultdict(list)
    for user, item, rating, timestamp in await connection.execute(_RATINGS, {"ids": ids}):
        given[user].append(Rating(item, rating, timestamp))
    deleted: dict[str, set[str]] = defaultdict(set)
    for user, item in await connection.execute(_DELETIONS, {"ids": ids}):
        deleted[user].add(item)
    return {
        id_: StoredUser(
            row.revision,
            row.erased or 0,
            tuple(given[id_]),
            frozenset(deleted[id_]) - {rating.item for rating in given[id_]},
        )
        for id_, row in found.items()
    }
