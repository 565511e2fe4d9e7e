"""Noting which ratings are new, in the transaction that stores them: they are compared with predictions later.

A rating of a pair that has one, or had one that was deleted, is a changed one and is not noted.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from app.ratings.tables import deletions, incoming, ratings, users

_COLUMNS = [incoming.c.revision, incoming.c.user, incoming.c.item, incoming.c.rating, incoming.c.before]


def _new(user: Any, item: Any) -> Any:
    """Whether nothing is known of a pair."""
    tables = (ratings, deletions)
    return sa.and_(*(~sa.exists().where(table.c.user == user, table.c.item == item) for table in tables))


def _before(user: Any) -> Any:
    earlier = sa.select(users.c.revision).where(users.c.user == user).scalar_subquery()
    return sa.func.coalesce(earlier, 0)


def _note_incoming() -> sa.Insert:
    """Takes the columns of a rating, and `revision`."""
    given = {
        name: sa.cast(sa.bindparam(name, type_=incoming.c[name].type), incoming.c[name].type)
        for name in ("revision", "user", "item", "rating")
    }
    found = sa.select(*given.values(), _before(given["user"])).where(_new(given["user"], given["item"]))
    return sa.insert(incoming).from_select(_COLUMNS, found)


def note_given(given: Any, bumped: Any) -> sa.Insert:
    """The same for a table of ratings `given`; `bumped` has their revision."""
    found = sa.select(bumped.c.revision, given.c.user, given.c.item, given.c.rating, _before(given.c.user))
    found = found.join(bumped, sa.true()).where(_new(given.c.user, given.c.item))
    return sa.insert(incoming).from_select(_COLUMNS, found)


NOTE_INCOMING = _note_incoming()
ERASE_INCOMING = sa.delete(incoming).where(incoming.c.user == sa.bindparam("of"))
