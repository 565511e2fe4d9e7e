"""What a ratings store has beside its ratings: its state, live errors, items, and who was deleted. It only reads.

Every function raises DataError where the database cannot be read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from models.checkpoint.manifest import Snapshot
from models.stored_items import TABLE as ITEMS
from models.stored_items import StoredItem
from models.urls import without_credentials
from training.data.database import CHUNK_ROWS, connected
from training.errors import DataError

STORE, RATINGS = "ratecast_store", "ratings"  # tables: the identity of a store and its last change; its ratings
QUALITY, LIVE_DAYS = "ratecast_quality", 30
SUMMED = ("ratings", "squared", "absolute", "intervals", "covered", "bias_squared")
ITEM_COLUMNS = (
    *("item", "title", "year", "genres", "labels"),
    *("hidden", "available_from", "available_until", "deleted"),
)
RATING_SCHEMA = pa.schema(
    {"user": pa.string(), "item": pa.string(), "rating": pa.float64(), "timestamp": pa.timestamp("s", "UTC")}
)


class LiveError(NamedTuple):
    """How far off a version was for the ratings that came in lately; `coverage90` is None where it has no intervals."""

    version: str
    source: str  # what the predictions rest on: `model`, `fold_in` or `unknown`
    ratings: int
    rmse: float
    mae: float
    coverage90: float | None
    bias_rmse: float


def check(url: str) -> None:
    """Raise DataError for a database that is no ratings store."""
    if snapshot(url) is None:
        raise DataError(
            f"{_name(url)}: no ratings store; give the URL that the service has in RATECAST_STORE "
            "(without that: sqlite:///DIR/ratings.sqlite in the checkpoint directory)"
        )


def snapshot(url: str) -> Snapshot | None:
    """The identity and the last change of a ratings store; None for another database."""
    with connected(url) as connection:
        if not _has(connection, STORE):
            return None
        query = sa.select(sa.column("id", sa.Text), sa.column("revision", sa.BigInteger)).select_from(sa.table(STORE))
        row = connection.execute(query).one_or_none()
        return None if row is None else Snapshot(store=row.id, revision=row.revision)


def live_errors(url: str) -> tuple[LiveError, ...]:
    """The live errors of the last `LIVE_DAYS`, by version and source; none of another database."""
    table = _table(QUALITY, "version", "source", "hour", *SUMMED)
    now = int(time.time()) // 3_600
    key = table.c.version, table.c.source
    query = sa.select(*key, *(sa.func.sum(table.c[name]) for name in SUMMED)).where(
        table.c.hour.between(now - 24 * LIVE_DAYS, now + 1)
    )
    with connected(url) as connection:
        if not _has(connection, QUALITY):
            return ()
        rows = connection.execute(query.group_by(*key).order_by(*key)).all()
    return tuple(_live_error(version, source, *map(float, sums)) for version, source, *sums in rows)


def items(url: str) -> tuple[StoredItem, ...]:
    """What the store says of items, deleted ones too; none of another database."""
    with connected(url) as connection:
        if not _has(connection, ITEMS):
            return ()
        table = _table(ITEMS, *ITEM_COLUMNS)
        return tuple(map(StoredItem.of_row, connection.execute(sa.select(table).order_by(table.c.item))))


def erased_users(url: str, after: int = -1) -> pa.StringArray:
    """Ids of the users who were deleted after a revision, also of those who have rated again; none of a database
    that is no store."""
    with connected(url) as connection:
        if not _has(connection, STORE):
            return pa.array([], pa.string())
        table = _table("ratecast_users", "user", "erased")
        query = sa.select(table.c.user).where(table.c.erased > after).order_by(table.c.user)
        return pa.array([user for (user,) in connection.execute(query)], pa.string())


def ratings(url: str, user: str | None) -> Iterator[pa.RecordBatch]:
    """All stored ratings, or those of one user, by user and item; `RATING_SCHEMA`, null for an unknown time."""
    with connected(url) as connection:
        table = _table(RATINGS, *RATING_SCHEMA.names)
        query = sa.select(table).order_by(table.c.user, table.c.item)
        if user is not None:
            query = query.where(table.c.user == user)
        streaming = connection.execution_options(stream_results=True, yield_per=CHUNK_ROWS)
        with streaming.execute(query) as rows:
            for part in rows.partitions():
                yield _batch(part)


def _batch(rows: Sequence[Any]) -> pa.RecordBatch:
    users, ids, values, times = zip(*rows, strict=True)
    known = [time or None for time in times]
    columns = [pa.array(each, field.type) for each, field in zip((users, ids, values), RATING_SCHEMA, strict=False)]
    return pa.RecordBatch.from_arrays(
        [*columns, pa.array(known, pa.int64()).cast(RATING_SCHEMA.field("timestamp").type)], schema=RATING_SCHEMA
    )


def _live_error(version: str, source: str, *sums: float) -> LiveError:
    count, squared, absolute, intervals, covered, bias_squared = sums
    share = covered / intervals if intervals else None
    rmse, bias_rmse = math.sqrt(squared / count), math.sqrt(bias_squared / count)
    return LiveError(version, source, int(count), rmse, absolute / count, share, bias_rmse)


def _has(connection: Connection, table: str) -> bool:
    return bool(sa.inspect(connection).has_table(table))


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns))


def _name(url: str) -> str:
    return without_credentials(sa.make_url(url))
