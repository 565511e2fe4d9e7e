"""Ratings that are still to be compared with what was predicted for them, and the sums of their errors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SUMS = ("squared", "absolute", "bias_squared", "bias_absolute")
COUNTS = ("ratings", "intervals", "covered", "bias_intervals", "bias_covered")


def upgrade() -> None:
    op.create_table(
        "ratecast_incoming",
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("rating", sa.Double, nullable=False),
        sa.Column("before", sa.BigInteger, nullable=False),
    )
    op.create_index("ratecast_incoming_user", "ratecast_incoming", ["user"])
    op.create_table(
        "ratecast_quality",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
        *(sa.Column(name, sa.Double, nullable=False) for name in SUMS),
    )
    lease = op.create_table(
        "ratecast_lease",
        sa.Column("one", sa.SmallInteger, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(lease, [{"one": 1, "holder": "", "until": 0}])
