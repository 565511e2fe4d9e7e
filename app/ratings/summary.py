"""What a store has as a whole: counts, ratings over time, and what has come since a fit. It reads every rating once."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.tables import ratings, users

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


async def read_totals(connection: AsyncConnection, revision: int, later: int, since_day: int) -> Totals:
    """The totals; `changed_users` are those after `revision`, `later_ratings` from `later` on, `days` from a day on."""
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
    by_day = sa.select(day, sa.func.count()).where(ratings.c.timestamp >= since_day * DAY).group_by(day).order_by(day)
    days = {int(at): int(count) for at, count in await connection.execute(by_day)}
    return Totals(number, of_users, of_items, erased_users, first, last, changed_users, later_ratings, days)
