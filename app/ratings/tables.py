"""The tables of a ratings store. `migrations/` makes them; `ratings` is what `python -m training fit` reads.

Every change of a user's ratings has a number, the revision of the store after it. A writer locks the row with
the revision, so that revisions become visible in their order and none is skipped.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, MetaData, SmallInteger, Table, Text

VERSION_TABLE, HEAD = "ratecast_version", "0001"  # the newest of the migrations
metadata = MetaData()

store = Table(
    "ratecast_store",
    metadata,
    Column("one", SmallInteger, primary_key=True),  # there is one row
    Column("id", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
ratings = Table(
    "ratings",
    metadata,
    Column("user", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("rating", Double, nullable=False),
    Column("timestamp", BigInteger, nullable=False),  # seconds since 1970
)
users = Table(
    "ratecast_users",
    metadata,
    Column("user", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),  # of their last change
    Column("erased", BigInteger),  # the revision of their last erasure
    Index("ratecast_users_revision", "revision"),
)
# Deleted ratings: a model that was fitted on other data may still hold them. A row of `ratings` takes precedence.
deletions = Table(
    "ratecast_deletions",
    metadata,
    Column("user", Text, primary_key=True),
    Column("item", Text, primary_key=True),
)
requests = Table(
    "ratecast_requests",
    metadata,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Index("ratecast_requests_created", "created"),
)
