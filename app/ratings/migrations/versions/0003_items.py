"""What is known of items, beside the ratings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "ratecast_items",
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("title", sa.Text),
        sa.Column("year", sa.Integer),
        sa.Column("genres", sa.Text),
        sa.Column("labels", sa.Text),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("available_from", sa.BigInteger),
        sa.Column("available_until", sa.BigInteger),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("ratecast_items_revision", "ratecast_items", ["revision"])
    catalogue = op.create_table(
        "ratecast_catalogue",
        sa.Column("one", sa.SmallInteger, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(catalogue, [{"one": 1, "revision": 0}])
