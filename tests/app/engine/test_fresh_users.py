"""Users whose ratings changed after the model was fitted, on a real ratings store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.engine.folding import FoldedUser
from app.engine.fresh_users import FreshUsers, UnreadRatingsError
from app.engine.known_items import KnownItems
from app.engine.model_holder import ModelHolder
from app.engine.rating_history import RatingHistory
from app.engine.serving_model import ServingModel
from app.ratings.deleted_users import FILE, DeletedUsers
from app.ratings.records import Erase, Put, Rating
from app.ratings.revisions import Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from models.checkpoint.reader import Checkpoint
from models.devices import DevicePlacement
from models.stored_items import StoredItem, of_items

CPU = DevicePlacement(torch.device("cpu"))
Scenario = Callable[[RatingsStore, ServingModel], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path, loaded: Checkpoint) -> Callable[[Scenario], None]:
    async def main(scenario: Scenario) -> None:
        store = RatingsStore(address(f"sqlite:///{tmp_path / 'ratings.sqlite'}"), Revisions())
        await store.start()
        try:
            await scenario(store, ServingModel(loaded, revisions=store.revisions))
        finally:
            await store.close()

    return lambda scenario: asyncio.run(asyncio.wait_for(main(scenario), 60))


def fresh_users(store: RatingsStore, max_kept: int = 100) -> FreshUsers:
    return FreshUsers(RatingHistory(ModelHolder(CPU), store), max_kept)


def find(fresh: FreshUsers, model: ServingModel, user: str) -> FoldedUser | None:
    return fresh.find(model, user, model.users.row(user))


async def read(fresh: FreshUsers, model: ServingModel, *users: str) -> list[FoldedUser]:
    return [found.folded for found in await fresh.read_all(model, list(users), model.users.rows(list(users)))]


def put(user: str, item: str) -> Put:
    return Put(user, Rating(item, 5.0, 7))


def test_a_user_is_read_once_for_each_change(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store)
        assert find(fresh, model, "1") is None
        for item in ("1", "2"):
            await store.change(put("1", item))
            with pytest.raises(UnreadRatingsError):
                find(fresh, model, "1")
            (folded,) = await read(fresh, model, "1")
            assert find(fresh, model, "1") is folded
            assert model.items.row(item) in folded.rated_M
        assert find(fresh, model, "2") is None

    run(scenario)


def test_of_a_batch_those_who_changed_are_found_wherever_they_stand(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store)
        users = ["2", "1", "new", "1", "nobody"]
        rows_B = model.users.rows(users)
        assert fresh.find_all(model, users, rows_B) == []
        await store.change(put("1", "1"))
        await store.change(put("new", "1"))
        with pytest.raises(UnreadRatingsError):
            fresh.find_all(model, users, rows_B)
        for found in (await fresh.read_all(model, users, rows_B), fresh.find_all(model, users, rows_B)):
            assert sorted(one.positions_M.tolist() for one in found) == [[1, 3], [2]]

    run(scenario)


def test_an_erased_user_is_folded_in_from_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        await store.change(Erase("1"))
        (folded,) = await read(fresh_users(store), model, "1")
        assert not folded.is_known

    run(scenario)


def test_beyond_the_bound_the_user_kept_longest_goes(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store, max_kept=2)
        for user in ("1", "2", "3"):
            await store.change(put(user, "1"))
            await read(fresh, model, user)
        with pytest.raises(UnreadRatingsError):
            find(fresh, model, "1")
        assert all(find(fresh, model, user) for user in ("2", "3"))

    run(scenario)


def test_while_the_store_is_unreachable_what_is_kept_or_the_model_answers(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store)
        await store.change(put("1", "1"))
        (before,) = await read(fresh, model, "1")
        await store.change(put("1", "2"))
        await store.change(put("2", "2"))
        store.database.available = False
        assert find(fresh, model, "1") is before
        assert find(fresh, model, "2") is None
        assert await read(fresh, model, "1", "2") == [before]

    run(scenario)


def test_a_change_of_items_leaves_the_rows_of_users(run: Callable[[Scenario], None]) -> None:
    """They follow from ratings alone: without the store, a change of one item would take everybody's ratings away."""

    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store)
        await store.change(put("1", "1"))
        (before,) = await read(fresh, model, "1")
        known = KnownItems.none().with_changes(of_items([StoredItem("1", hidden=True)]), 1)
        view = model.with_items(known, time.time())
        assert find(fresh, view, "1") is before

    run(scenario)


def test_a_user_who_was_deleted_is_unknown_while_the_store_is_unreachable(run: Callable[[Scenario], None]) -> None:
    """Also where nothing of them is kept, or a row from before the deletion."""

    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store)
        await store.change(put("1", "1"))
        assert all(folded.is_known for folded in await read(fresh, model, "1"))
        await store.change(Erase("1"))
        await store.change(Erase("2"))
        store.database.available = False
        for found in (
            [find(fresh, model, "1"), find(fresh, model, "2")],
            await read(fresh, model, "1", "2", "3"),
            [one.folded for one in fresh.find_all(model, ["3", "2"], model.users.rows(["3", "2"]))],
        ):
            assert found
            assert not any(folded is None or folded.is_known for folded in found)
        assert find(fresh, model, "3") is None

    run(scenario)


def test_they_stay_unknown_after_a_restart_without_the_store(tmp_path: Path, loaded: Checkpoint) -> None:
    """Another process reads the file beside the models, as does one that runs already when they are deleted."""
    database, file = tmp_path / "ratings.sqlite", tmp_path / FILE

    async def main() -> None:
        running, store = (
            RatingsStore(address(f"sqlite:///{database}"), Revisions(), deleted=DeletedUsers(file)) for _ in range(2)
        )
        await store.start()
        await store.change(Erase("1"))
        await store.change(put("1", "1"))
        await store.close()
        database.write_bytes(bytes(8192))
        restarted = RatingsStore(address(f"sqlite:///{database}"), Revisions(), deleted=DeletedUsers(file))
        await restarted.start()
        for without in (running, restarted):
            assert not without.available
            model, fresh = ServingModel(loaded, revisions=without.revisions), fresh_users(without)
            found = find(fresh, model, "1")
            assert found is not None
            assert not found.is_known
            assert [one.is_known for one in await read(fresh, model, "1", "2")] == [False]
            assert find(fresh, model, "2") is None
            await without.close()

    asyncio.run(main())


def test_another_model_is_folded_into_anew(run: Callable[[Scenario], None], loaded: Checkpoint) -> None:
    async def scenario(store: RatingsStore, model: ServingModel) -> None:
        fresh = fresh_users(store)
        await store.change(put("1", "1"))
        (first,) = await read(fresh, model, "1")
        other = ServingModel(loaded, revisions=store.revisions)
        with pytest.raises(UnreadRatingsError):
            find(fresh, other, "1")
        (second,) = await read(fresh, other, "1")
        assert second is not first
        assert np.array_equal(second.factors_F, first.factors_F)

    run(scenario)
