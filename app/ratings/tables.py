"""The tables of a ratings store. `migrations/` makes them; `ratings` is what `ratecast fit` reads.

Every change of a user's ratings has a number, the revision of the store after it. A writer locks the row with
the revision, so that revisions become visible in their order and none is skipped.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, SmallInteger, Table, Text

from models.stored_items import TABLE as ITEMS

VERSION_TABLE, HEAD = "ratecast_version", "0004"  # the newest of the migrations
COUNTS = ("ratings", "intervals", "covered", "bias_intervals", "bias_covered")
SUMS = ("squared", "absolute", "bias_squared", "bias_absolute")
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
# Ratings of pairs that had none, until they are compared with what was predicted for them (`app.ratings.live_error`).
incoming = Table(
    "ratecast_incoming",
    metadata,
    Column("revision", BigInteger, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("rating", Double, nullable=False),
    Column("before", BigInteger, nullable=False),  # the revision of the user's change before it, 0 for none
    Index("ratecast_incoming_user", "user"),
)
# What was known of a pair before it was changed, for ratings of the user that wait: `rating` is null if there was none,
# and `deleted` says whether it had been deleted. Triggers write this table and `incoming` (migration 0004).
replaced = Table(
    "ratecast_replaced",
    metadata,
    Column("revision", BigInteger, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("rating", Double),
    Column("deleted", Boolean, nullable=False),
    Index("ratecast_replaced_user", "user"),
)
# Sums over the ratings of an hour, counted in hours since 1970, that a version predicted from a source.
quality = Table(
    "ratecast_quality",
    metadata,
    Column("version", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in COUNTS),
    *(Column(name, Double, nullable=False) for name in SUMS),
)
# Who compares, so that not all do; whoever else did would add nothing.
lease = Table(
    "ratecast_lease",
    metadata,
    Column("one", SmallInteger, primary_key=True),  # there is one row
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),  # seconds since 1970
)
# What is known of items (`app.ratings.items`); genres and labels are JSON. The revision is that of `catalogue`.
items = Table(
    ITEMS,
    metadata,
    Column("item", Text, primary_key=True),
    Column("title", Text),
    Column("year", Integer),
    Column("genres", Text),
    Column("labels", Text),
    Column("hidden", Boolean, nullable=False),
    Column("available_from", BigInteger),
    Column("available_until", BigInteger),
    Column("deleted", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("ratecast_items_revision", "revision"),
)
catalogue = Table(
    "ratecast_catalogue",
    metadata,
    Column("one", SmallInteger, primary_key=True),  # there is one row
    Column("revision", BigInteger, nullable=False),
)
