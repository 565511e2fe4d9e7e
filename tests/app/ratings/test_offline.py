"""What the offline job reads of a store is what the service has written, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest

from app.ratings.records import Erase, Put, PutMany, Rating
from app.ratings.revisions import Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from models.stored_items import StoredItem
from training.data import store as offline
from training.errors import DataError

ITEMS = [
    StoredItem("a/b", "Ä", 1999, ("War", "Drama"), ("colour:red",), hidden=True, available_from=5, available_until=9),
    StoredItem("gone", deleted=True),
    StoredItem("plain"),
]


def test_items_ratings_and_deleted_users_are_read_as_they_were_written(store_url: str) -> None:
    async def write() -> int:
        store = RatingsStore(address(store_url), Revisions())
        await store.start()
        await store.items.change(ITEMS)
        await store.change(PutMany(["u", "v", "u"], [Rating("a", 4, 0), Rating("a", 3, 7), Rating("b", 2.5, 8)]))
        first = await store.change(Erase("early"))
        await store.change(Erase("v"))
        await store.change(Put("v", Rating("c", 1, 9)))
        await store.close()
        return first

    first = asyncio.run(write())
    offline.check(store_url)
    assert offline.items(store_url) == tuple(ITEMS)
    assert offline.erased_users(store_url).to_pylist() == ["early", "v"]
    assert offline.erased_users(store_url, first).to_pylist() == ["v"]
    snapshot = offline.snapshot(store_url)
    assert snapshot is not None
    assert snapshot.revision == first + 2
    everybody = pa.Table.from_batches(offline.ratings(store_url, None))
    assert everybody.schema == offline.RATING_SCHEMA
    assert [tuple(row.values())[:3] for row in everybody.to_pylist()] == [("u", "a", 4), ("u", "b", 2.5), ("v", "c", 1)]
    assert everybody["timestamp"].cast(pa.int64()).to_pylist() == [None, 8, 9]
    assert pa.Table.from_batches(offline.ratings(store_url, "v"))["item"].to_pylist() == ["c"]


def test_another_database_is_no_store(store_url: str) -> None:
    if store_url.startswith("sqlite"):
        Path(store_url.removeprefix("sqlite:///")).touch()
    with pytest.raises(DataError, match="no ratings store; give the URL"):
        offline.check(store_url)
    assert (offline.items(store_url), offline.erased_users(store_url).to_pylist()) == ((), [])
