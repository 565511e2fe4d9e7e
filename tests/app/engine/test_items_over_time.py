"""What a model shows of a store's items while time goes on, and after the database was restored from a copy."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.engine.stored_items import StoredItems
from app.engine.threads import Worker
from app.ratings.errors import StoreUnavailableError
from app.ratings.revisions import Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from models.checkpoint.reader import Checkpoint
from models.devices import DevicePlacement
from models.stored_items import StoredItem

T = TypeVar("T")
BEGIN, END = 1_900_000_000, 1_900_000_010


class Clock:
    """The time of the day; `late` is how much of it passes before a view that was asked for is made."""

    def __init__(self) -> None:
        self.now, self.late = float(BEGIN), 0.0

    def time(self) -> float:
        return self.now


class SlowWorker(Worker):
    """A worker that does other work first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def run_unlimited(self, work: Callable[[], T], *, quick: bool) -> T:  # noqa: ARG002 - as of any worker
        self._clock.now += self._clock.late
        return work()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    return clock


@asynccontextmanager
async def kept(file: Path, loaded: Checkpoint, clock: Clock) -> AsyncIterator[tuple[StoredItems, RatingsStore, Any]]:
    """The items of a store that a model shows, and which of some rows it does."""
    store = RatingsStore(address(f"sqlite:///{file}"), Revisions())
    await store.start()
    models = ModelHolder(DevicePlacement(torch.device("cpu")))
    models.model = ServingModel(loaded)

    def shown(*rows: int) -> list[bool]:
        shown_I = models.current.catalogue.shown_I
        return [shown_I is None or bool(shown_I[row]) for row in rows]

    items = StoredItems(models, store.items, SlowWorker(clock))
    await items.start()
    try:
        yield items, store, shown
    finally:
        await store.close()


def test_an_item_whose_time_comes_while_another_change_is_applied_is_hidden(
    tmp_path: Path, loaded: Checkpoint, clock: Clock
) -> None:
    async def main() -> None:
        async with kept(tmp_path / "ratings.sqlite", loaded, clock) as (items, _, shown):
            ends, other = loaded.items.ids[0].as_py(), loaded.items.ids[1].as_py()
            await items.change([StoredItem(ends, available_until=END)])
            assert shown(0) == [True]
            clock.now, clock.late = END - 0.5, 1.0
            await items.change([StoredItem(other, "changed")])
            clock.late = 0.0
            await items.refresh()
            assert shown(0, 1) == [False, True]

    asyncio.run(main())


def test_time_shows_and_hides_while_the_store_is_unreachable(tmp_path: Path, loaded: Checkpoint, clock: Clock) -> None:
    async def main() -> None:
        async with kept(tmp_path / "ratings.sqlite", loaded, clock) as (items, _, shown):
            ends, begins = loaded.items.ids[0].as_py(), loaded.items.ids[1].as_py()
            await items.change([StoredItem(ends, available_until=END), StoredItem(begins, available_from=END)])
            assert shown(0, 1) == [True, False]
            (tmp_path / "ratings.sqlite").rename(tmp_path / "away.sqlite")
            clock.now = END
            with pytest.raises(StoreUnavailableError):
                await items.refresh()
            assert shown(0, 1) == [False, True]

    asyncio.run(main())


def test_a_clock_that_is_set_back_shows_again_what_had_ended(tmp_path: Path, loaded: Checkpoint, clock: Clock) -> None:
    async def main() -> None:
        async with kept(tmp_path / "ratings.sqlite", loaded, clock) as (items, _, shown):
            ends, begins, other = loaded.items.ids[:3].to_pylist()
            await items.change([StoredItem(ends, available_until=END), StoredItem(begins, available_from=END)])
            clock.now = END + 1e8
            await items.refresh()
            assert shown(0, 1) == [False, True]
            clock.now = BEGIN
            await items.refresh()
            assert shown(0, 1) == [True, False]
            clock.now = BEGIN - 1e8
            await items.change([StoredItem(other, hidden=True)])
            assert shown(0, 1, 2) == [True, False, False]
            clock.now = END
            await items.refresh()
            assert shown(0, 1, 2) == [False, True, False]

    asyncio.run(main())


def test_after_a_restore_from_a_copy_a_model_shows_what_the_copy_says(
    tmp_path: Path, loaded: Checkpoint, clock: Clock
) -> None:
    """Items that the copy does not have are as the checkpoint has them, and times that it does not have are no more."""

    async def main() -> None:
        async with kept(tmp_path / "ratings.sqlite", loaded, clock) as (items, _, shown):
            ids = loaded.items.ids[:3].to_pylist()
            await items.change([StoredItem(ids[0], hidden=True)])
            await items.change([StoredItem(ids[0]), StoredItem(ids[1], hidden=True)])
            await items.change([StoredItem(ids[2], available_until=END)])
            assert shown(0, 1, 2) == [True, False, True]
            with closing(sqlite3.connect(tmp_path / "ratings.sqlite")) as database, database:
                database.execute("DELETE FROM ratecast_items")
                database.execute(
                    "INSERT INTO ratecast_items (item, hidden, deleted, revision) VALUES (?, 1, 0, 1)", (ids[0],)
                )
                database.execute("UPDATE ratecast_catalogue SET revision = 1")
            await items.refresh()
            assert shown(0, 1, 2) == [False, True, True]
            assert [items.known(id_) is None for id_ in ids] == [False, True, True]
            clock.now = END
            await items.refresh()
            assert shown(2) == [True]
            await items.patch(ids[1], lambda known: known._replace(hidden=True))
            assert shown(0, 1, 2) == [False, False, True]
            assert items.known(ids[1]).title == loaded.catalogue["title"][1].as_py()

    asyncio.run(main())
