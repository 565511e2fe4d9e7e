"""The first version of the tables."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    store = op.create_table(
        "ratecast_store",
        sa.Column("one", sa.SmallInteger, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(store, [{"one": 1, "id": str(uuid4()), "revision": 0}])
    op.create_table(
        "ratings",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("rating", sa.Double, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ratecast_users",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("erased", sa.BigInteger),
    )
    op.create_index("ratecast_users_revision", "ratecast_users", ["revision"])
    op.create_table(
        "ratecast_deletions",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("item", sa.Text, primary_key=True),
    )
    op.create_table(
        "ratecast_requests",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("ratecast_requests_created", "ratecast_requests", ["created"])
