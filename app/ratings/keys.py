"""Idempotency keys: a request that is sent again is answered, and not carried out again. It knows no other change."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings.errors import RequestKeyError
from app.ratings.records import RequestKey
from app.ratings.tables import requests

KEPT_SECONDS = 7 * 86_400


async def use_key(connection: AsyncConnection, key: RequestKey, revision: int) -> int | None:
    """The revision of the request that used the key before; None if none did, and then it is used now.

    Two transactions that use one key at once follow one another. Raises RequestKeyError if it was another request.
    """
    now = int(time.time())
    await connection.execute(sa.delete(requests).where(requests.c.created < now - KEPT_SECONDS))
    row = {"key": key.key, "fingerprint": key.fingerprint, "revision": revision, "created": now}
    if (await connection.execute(_USE[connection.dialect.name], row)).first() is not None:
        return None
    query = sa.select(requests.c.fingerprint, requests.c.revision).where(requests.c.key == key.key)
    found = (await connection.execute(query)).one()
    if found.fingerprint != key.fingerprint:
        raise RequestKeyError("the Idempotency-Key was used for another request")
    first: int = found.revision
    return first


_USE = {
    name: insert(requests).on_conflict_do_nothing().returning(requests.c.key)
    for name, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
