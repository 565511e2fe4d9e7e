"""What a store has of all users: counts, ratings over time, what has come since a fit, and the ratings of an item.

Each function reads every rating once: there is no index of times or of items, which would slow every change down.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.tables import deletions, ratings, users

DAY = 86_400


class Totals(NamedTuple):
    """Counts of a store; times are seconds since 1970, None where no rating has one."""

    ratings: int
    users: int
    items: int
    erased_users: int
    first: int | None
    last: int | None
    changed_users: int  # since a revision
    later_ratings: int  # with a time of at least another
    days: dict[int, int]  # ratings by day, counted in days since 1970


class RatingOfItem(NamedTuple):
    """A stored rating of one item."""

    user: str
    rating: float
    timestamp: int  # seconds since 1970, 0 where it is unknown


class StoredRatingsOfItem(NamedTuple):
    """What a store says of the ratings of one item."""

    ratings: list[RatingOfItem]  # the newest first
    without: frozenset[str]  # users whose rating of it was deleted, and users who were deleted


async def read_item(connection: AsyncConnection, item: str) -> StoredRatingsOfItem:
    """The ratings of an item, and who has none although a model may have been fitted on one."""
    newest = ratings.c.timestamp.desc(), ratings.c.user
    found = sa.select(ratings.c.user, ratings.c.rating, ratings.c.timestamp).where(ratings.c.item == item)
    given = [RatingOfItem(*row) for row in await connection.execute(found.order_by(*newest))]
    deleted = sa.select(deletions.c.user).where(deletions.c.item == item)
    erased = sa.select(users.c.user).where(users.c.erased.is_not(None))
    without = (await connection.execute(sa.union(deleted, erased))).scalars()
    return StoredRatingsOfItem(given, frozenset(without))


async def read_totals(connection: AsyncConnection, revision: int, later: int, days: range) -> Totals:
    """The totals; `changed_users` are those after `revision`, `later_ratings` from `later` on."""
    known = sa.func.nullif(ratings.c.timestamp, 0)
    is_later = sa.case((ratings.c.timestamp >= later, 1))
    distinct = (sa.func.count(sa.distinct(column)) for column in (ratings.c.user, ratings.c.item))
    figures = sa.func.count(), *distinct, sa.func.min(known), sa.func.max(known), sa.func.count(is_later)
    number, of_users, of_items, first, last, later_ratings = (
        await connection.execute(sa.select(*figures).select_from(ratings))
    ).one()
    erased, changed = sa.func.count(users.c.erased), sa.func.count(sa.case((users.c.revision > revision, 1)))
    erased_users, changed_users = (await connection.execute(sa.select(erased, changed))).one()
    day = ratings.c.timestamp.op("/")(sa.literal_column(str(DAY)))  # of integers
    within = (
        ratings.c.timestamp >= days.start * DAY,
        ratings.c.timestamp < days.stop * DAY,
    )
    by_day = sa.select(day, sa.func.count()).where(*within).group_by(day).order_by(day)
    counts = {int(at): int(count) for at, count in await connection.execute(by_day)}
    return Totals(number, of_users, of_items, erased_users, first, last, changed_users, later_ratings, counts)
