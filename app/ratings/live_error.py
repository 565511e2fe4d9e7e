"""New ratings and what was predicted for them: which wait to be compared, and the sums of the errors.

A rating is counted in the transaction that deletes it from those that wait, so it counts once, whoever compares and
whatever is killed meanwhile. Each function works on a connection that it is given.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.tables import COUNTS, SUMS, incoming, lease, quality, replaced

MOST_TOGETHER = 2_000  # ratings that are compared in one step
LEASE_SECONDS = 10
HOUR = 3_600
KEPT_DAYS = 90
LAST_REVISION = (1 << 63) - 1


class Incoming(NamedTuple):
    """A new rating; `before` is the revision of the user's change before it, 0 for none."""

    revision: int
    user: str
    item: str
    rating: float
    before: int


class Replaced(NamedTuple):
    """What was known of a pair before a change: its rating, None if it had none, and whether it had been deleted."""

    revision: int  # of the change
    user: str
    item: str
    rating: float | None
    deleted: bool


class Waiting(NamedTuple):
    """Ratings that wait to be compared, and what was changed since the first of them came."""

    ratings: Sequence[Incoming]
    replaced: Sequence[Replaced]


@dataclass(slots=True)
class ErrorSums:
    """Sums over ratings: of how far off the model was, and the biases alone, and of how many intervals held them."""

    ratings: int = 0
    squared: float = 0.0
    absolute: float = 0.0
    intervals: int = 0
    covered: int = 0
    bias_squared: float = 0.0
    bias_absolute: float = 0.0
    bias_intervals: int = 0
    bias_covered: int = 0

    def add(self, other: ErrorSums) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Judged(NamedTuple):
    """A version and what its predictions rest on, and how far off one was; None where the rating does not count."""

    version: str
    source: str
    sums: ErrorSums | None


async def read_incoming(connection: AsyncConnection) -> list[Incoming]:
    """The oldest ratings that wait, at most `MOST_TOGETHER` and what came together with the last of them."""
    ordered = sa.select(incoming).order_by(*_KEY)
    found = [Incoming(*row) for row in await connection.execute(ordered.limit(MOST_TOGETHER))]
    if len(found) == MOST_TOGETHER:
        revision, user, item, *_ = found[-1]
        of_last = incoming.c.revision == revision, incoming.c.user == user, incoming.c.item > item
        found += [Incoming(*row) for row in await connection.execute(ordered.where(*of_last))]
    return found


async def read_waiting_of(connection: AsyncConnection, ids: Sequence[str]) -> Waiting:
    """All ratings of some users that wait, and what was changed of these users."""
    given = {"ids": ids}
    ratings = [Incoming(*row) for row in await connection.execute(_WAITING_OF, given)]
    return Waiting(ratings, [Replaced(*row) for row in await connection.execute(_REPLACED_OF, given)])


async def count_waiting(connection: AsyncConnection) -> int:
    """How many ratings wait."""
    found: int = (await connection.execute(sa.select(sa.func.count()).select_from(incoming))).scalar_one()
    return found


async def claim(connection: AsyncConnection, holder: str) -> bool:
    """Become the one who compares for `LEASE_SECONDS`, unless somebody else is.

    A time that is much later comes from a clock that was wrong; two who compare at once count nothing twice.
    """
    now = int(time.time())
    free = sa.or_(lease.c.until < now, lease.c.until > now + 2 * LEASE_SECONDS, lease.c.holder == holder)
    taken = sa.update(lease).where(free).values(holder=holder, until=now + LEASE_SECONDS).returning(lease.c.one)
    return (await connection.execute(taken)).first() is not None


async def settle(connection: AsyncConnection, judged: Sequence[tuple[Incoming, Judged]]) -> None:
    """Delete ratings from those that wait, and add up the errors of those that were still there."""
    hour = int(time.time()) // HOUR
    await connection.execute(sa.update(lease).values(until=lease.c.until))  # one settles at a time
    await connection.execute(sa.delete(quality).where(quality.c.hour < hour - KEPT_DAYS * 24))
    revisions = [rating.revision for rating, _ in judged]
    still = sa.select(*_KEY).where(incoming.c.revision.between(min(revisions), max(revisions)))
    waiting = {tuple(row) for row in await connection.execute(still)}
    await connection.execute(_SETTLE, [dict(zip("rui", rating[:3], strict=True)) for rating, _ in judged])
    await forget_changes(connection)
    totals: dict[tuple[str, str], ErrorSums] = {}
    for rating, found in judged:
        if found.sums is not None and rating[:3] in waiting:
            totals.setdefault((found.version, found.source), ErrorSums()).add(found.sums)
    rows = [
        {"version": version, "source": source, "hour": hour} | {name: getattr(sums, name) for name in COUNTS + SUMS}
        for (version, source), sums in totals.items()
    ]
    if rows:
        await connection.execute(_ADD[connection.dialect.name], rows)


async def has_changes(connection: AsyncConnection) -> bool:
    """Whether there are changes before all ratings that wait, which nobody needs."""
    return (await connection.execute(sa.select(replaced.c.revision).where(_EARLIER).limit(1))).first() is not None


async def forget_changes(connection: AsyncConnection) -> None:
    """Delete these changes."""
    await connection.execute(sa.delete(replaced).where(_EARLIER))


async def read_sums(connection: AsyncConnection, since: int) -> dict[tuple[str, str], ErrorSums]:
    """The sums of each version and source from an hour on, and not of hours that are still to come."""
    now = int(time.time()) // HOUR
    columns = [sa.func.sum(quality.c[field.name]) for field in fields(ErrorSums)]
    found = sa.select(quality.c.version, quality.c.source, *columns).where(quality.c.hour.between(since, now + 1))
    rows = await connection.execute(found.group_by(quality.c.version, quality.c.source))
    names = [field.name for field in fields(ErrorSums)]
    return {(version, source): _sums(dict(zip(names, values, strict=True))) for version, source, *values in rows}


def _sums(values: Mapping[str, Any]) -> ErrorSums:
    """As numbers of Python: PostgreSQL sums integers to decimals."""
    numbers: dict[str, Any] = {n: int(value) if n in COUNTS else float(value) for n, value in values.items()}
    return ErrorSums(**numbers)


def _adding(put: Any) -> Any:
    """Adds to the sums that are there."""
    added = {name: quality.c[name] + put.excluded[name] for name in COUNTS + SUMS}
    return put.on_conflict_do_update(index_elements=[quality.c.version, quality.c.source, quality.c.hour], set_=added)


_ADD = {"postgresql": _adding(postgresql.insert(quality)), "sqlite": _adding(sqlite.insert(quality))}
_KEY = (incoming.c.revision, incoming.c.user, incoming.c.item)
_SETTLE = sa.delete(incoming).where(*(column == sa.bindparam(name) for column, name in zip(_KEY, "rui", strict=True)))
_WAITING_OF, _REPLACED_OF = (
    sa.select(table).where(table.c.user.in_(sa.bindparam("ids", expanding=True))) for table in (incoming, replaced)
)
_EARLIER = replaced.c.revision < sa.func.coalesce(
    sa.select(sa.func.min(incoming.c.revision)).scalar_subquery(), LAST_REVISION
)


def total(sums: Iterable[ErrorSums]) -> ErrorSums:
    """All of them together."""
    together = ErrorSums()
    for one in sums:
        together.add(one)
    return together
