"""Reading what a ratings store has of some users, in parts that are bounded however many ratings one user has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.records import Rating, StoredUser
from app.ratings.tables import deletions, ratings, users

MOST_RATINGS = 50_000  # of the users who are read together, or of one: 0.2 s. Nobody in the data of Netflix has 18,000


class UserRows(NamedTuple):
    """The rows of some users in three tables. `complete` says whether there were no more than `MOST_RATINGS`."""

    users: Sequence[Any]
    ratings: Sequence[Any]
    deletions: Sequence[Any]
    complete: bool

    def records(self) -> dict[str, StoredUser]:
        """The records of those who have one."""
        given: dict[str, list[Rating]] = defaultdict(list)
        for user, item, rating, timestamp in self.ratings:
            given[user].append(Rating(item, rating, timestamp))
        deleted: dict[str, set[str]] = defaultdict(set)
        for user, item in self.deletions:
            deleted[user].add(item)
        return {
            user: StoredUser(
                revision,
                erased or 0,
                tuple(given[user]),
                frozenset(deleted[user] - {one.item for one in given[user]}),
                self.complete,
            )
            for user, revision, erased in self.users
        }


async def read_users(connection: AsyncConnection, ids: Sequence[str]) -> UserRows:
    """The rows of some users, at most `MOST_RATINGS` of each table."""
    wanted = {"ids": ids, "most": MOST_RATINGS + 1}
    found = (await connection.execute(_USERS, {"ids": ids})).all()
    given, deleted = [(await connection.execute(query, wanted)).all() for query in (_RATINGS, _DELETIONS)]
    complete = len(given) <= MOST_RATINGS and len(deleted) <= MOST_RATINGS
    return UserRows(found, given[:MOST_RATINGS], deleted[:MOST_RATINGS], complete)


async def read_erased(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
    """The revision of the last deletion of those of some users who were ever deleted."""
    return {user: erased for user, _, erased in await connection.execute(_USERS, {"ids": ids}) if erased}


def _of_users(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).where(table.c.user.in_(sa.bindparam("ids", expanding=True)))


# They are made once: making a statement takes longer than executing it.
_USERS = _of_users(users)
_RATINGS, _DELETIONS = (
    _of_users(table).order_by(table.c.user, table.c.item).limit(sa.bindparam("most")) for table in (ratings, deletions)
)
