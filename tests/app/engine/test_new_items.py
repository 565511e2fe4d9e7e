"""Following the ratings of new items, on a real ratings store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from app.engine.model_holder import ModelHolder
from app.engine.new_items import OfVersion
from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ServingModel
from app.engine.threads import Worker
from app.ratings.records import Put, Rating
from app.ratings.revisions import Revisions
from app.ratings.schema import address
from app.ratings.statements import ChangedUser
from app.ratings.store import RatingsStore
from models.checkpoint.reader import Checkpoint
from models.devices import DevicePlacement

MOST_WRITES = 50


def test_a_look_ends_while_ratings_keep_coming(
    tmp_path: Path, loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read of changes meets another one. What came after the look began is read at the next."""
    writes = 0

    async def main() -> None:
        nonlocal writes
        store, worker = (
            RatingsStore(address(f"sqlite:///{tmp_path / 'ratings.sqlite'}"), Revisions()),
            Worker("test", 5.0),
        )
        await store.start()
        plain = store.changed_after

        async def changed_after(read_to: tuple[int, str]) -> list[ChangedUser]:
            nonlocal writes
            if writes < MOST_WRITES:
                writes += 1
                await store.change(Put(f"user {writes}", Rating("new", 5.0, 7)))
            return await plain(read_to)

        monkeypatch.setattr(store, "changed_after", changed_after)
        holder = ModelHolder(DevicePlacement(torch.device("cpu")))
        found = OfVersion(ServingModel(loaded, revisions=store.revisions), RatingHistory(holder, store))
        try:
            await store.change(Put("first", Rating("new", 5.0, 7)))
            await found.read(store, worker)
            assert writes <= 2
            before = writes
            await found.read(store, worker)
            assert before < writes <= before + 2
            users, writes = {"first", *(f"user {number}" for number in range(1, writes + 1))}, MOST_WRITES
            await found.read(store, worker)
            assert set(found._raters) == users
        finally:
            await store.close()
            worker.close()

    asyncio.run(asyncio.wait_for(main(), 60))
