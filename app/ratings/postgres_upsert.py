"""A whole transaction of plain ratings as one statement for PostgreSQL: one way there and back, not one a statement.

It does what `app.ratings.writing` does step by step, in the same order: the store's row is locked before
others are written.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.tables import ratings, store, users


def _statement() -> sa.Select[int]:
    """Takes a column of each kind, a pair once, and `everybody`, a user once; gives the revision."""
    columns = [*ratings.c]
    given = (
        sa.func.unnest(
            *(sa.bindparam(column.name, type_=ARRAY(column.type)) for column in columns),
            type_=sa.types.NULLTYPE,
        )
        .table_valued(*(sa.column(column.name, column.type) for column in columns), name="given")
        .render_derived()
    )
    everybody = (
        sa.func.unnest(sa.bindparam("everybody", type_=ARRAY(sa.Text)))
        .table_valued(sa.column("user", sa.Text), name="everybody")
        .render_derived()
    )
    bumped = sa.update(store).values(revision=store.c.revision + 1).returning(store.c.revision).cte("bumped")
    # Joined with the new revision, so that nothing is written before it is had.
    put = postgresql.insert(ratings).from_select(
        columns, sa.select(*(given.c[column.name] for column in columns)).join(bumped, sa.true())
    )
    put = put.on_conflict_do_update(
        index_elements=[ratings.c.user, ratings.c.item],
        set_={"rating": put.excluded.rating, "timestamp": put.excluded.timestamp},
    )
    touch = postgresql.insert(users).from_select(
        [users.c.user, users.c.revision], sa.select(everybody.c.user, bumped.c.revision).join(bumped, sa.true())
    )
    touch = touch.on_conflict_do_update(index_elements=[users.c.user], set_={"revision": touch.excluded.revision})
    return sa.select(bumped.c.revision).add_cte(put.cte("put"), touch.cte("touched"))


_STATEMENT = _statement()


async def put(connection: AsyncConnection, rows: Iterable[tuple[str, str, float, int]]) -> int:
    """Store ratings, each pair once: user, item, rating, timestamp. Gives the revision; commits by itself."""
    columns = dict(zip((column.name for column in ratings.c), map(list, zip(*rows, strict=True)), strict=True))
    values = columns | {"everybody": [*dict.fromkeys(columns["user"])]}
    revision: int = (await connection.execute(_STATEMENT, values)).scalar_one()
    return revision
