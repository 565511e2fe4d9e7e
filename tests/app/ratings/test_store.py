"""Ratings that are acknowledged are there, in whatever order and company they were given."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings import statements, user_records
from app.ratings import store as store_module
from app.ratings.database import Database
from app.ratings.errors import RequestKeyError, StoreUnavailableError
from app.ratings.records import Committed, Delete, Erase, Put, PutMany, Rating, RequestKey, StoredUser, storable
from app.ratings.revisions import LATEST, Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from app.ratings.summary import Totals
from models.stored_items import StoredItem


@asynccontextmanager
async def opened(url: str, changes: Revisions | None = None) -> AsyncIterator[RatingsStore]:
    store = RatingsStore(address(url), changes or Revisions())
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def run(url: str, work: Callable[[RatingsStore], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(url) as store:
            await work(store)

    asyncio.run(main())


def test_a_database_is_closed_when_work_whose_caller_has_gone_has_ended(store_url: str) -> None:
    """A driver would lose the connection that the work uses: neither closed nor given back."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        begun.set()
        await may_end.wait()
        await connection.execute(sa.text("SELECT 1"))

    async def main() -> None:
        database = Database(address(store_url))
        await database.prepare()
        caller = asyncio.create_task(database.read(work))
        await begun.wait()
        caller.cancel()
        closing = asyncio.create_task(database.close())
        await asyncio.wait((caller,))
        assert caller.cancelled()
        assert not closing.done()
        may_end.set()
        await closing
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    gc.collect()  # a lost connection warns, and a warning is an error


def given(user: str, item: str, rating: float, timestamp: int = 7) -> Put:
    return Put(user, Rating(item, rating, timestamp))


def rows(database: sa.Engine) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        query = sa.text('SELECT "user", item, rating, timestamp FROM ratings ORDER BY "user", item')
        return [tuple(row) for row in connection.execute(query)]


def test_a_rating_is_stored_and_another_one_takes_its_place(store_url: str, database: sa.Engine) -> None:
    async def work(store: RatingsStore) -> None:
        assert await store.change(given("ü", "a/b", 4.5)) == 1
        assert rows(database) == [("ü", "a/b", 4.5, 7)]
        assert await store.change(given("ü", "a/b", 2, 9)) == 2
        stored = (await store.of(["ü"]))["ü"]
        assert stored == StoredUser(revision=2, ratings=(Rating("a/b", 2, 9),))

    run(store_url, work)
    assert rows(database) == [("ü", "a/b", 2, 9)]


def test_a_rating_that_is_taken_back_is_known_to_be_and_can_be_given_again(store_url: str) -> None:
    async def work(store: RatingsStore) -> None:
        await store.change(given("u", "a", 3))
        await store.change(Delete("u", "a"))
        await store.change(Delete("u", "only in the training data"))
        stored = (await store.of(["u"]))["u"]
        assert (stored.ratings, stored.deleted) == ((), {"a", "only in the training data"})
        await store.change(given("u", "a", 5))
        stored = (await store.of(["u"]))["u"]
        assert (stored.ratings, stored.deleted) == ((Rating("a", 5, 7),), {"only in the training data"})

    run(store_url, work)


def test_an_erased_user_has_nothing_left_but_that_they_were_erased(store_url: str, database: sa.Engine) -> None:
    async def work(store: RatingsStore) -> None:
        await store.change(given("u", "a", 3))
        await store.change(Delete("u", "b"))
        await store.change(given("v", "a", 1))
        erased = await store.change(Erase("u"))
        assert (await store.of(["u"]))["u"] == StoredUser(revision=erased, erased=erased)
        after = await store.change(given("u", "c", 2))
        assert (await store.of(["u"]))["u"] == StoredUser(after, erased, (Rating("c", 2, 7),))

    run(store_url, work)
    assert rows(database) == [("u", "c", 2, 7), ("v", "a", 1, 7)]


def test_changes_that_come_together_are_made_in_their_order(store_url: str, database: sa.Engine) -> None:
    """All of them are waiting before the first is committed."""

    async def work(store: RatingsStore) -> None:
        changes = [
            given("a", "x", 1),
            given("a", "x", 2),
            given("b", "x", 3),
            Delete("b", "x"),
            Delete("c", "x"),
            given("c", "x", 4),
            given("d", "x", 1),
            Erase("d"),
            given("d", "y", 5),
        ]
        revisions = await asyncio.gather(*map(store.change, changes))
        assert revisions == sorted(revisions)
        assert len(set(revisions)) < len(changes)

    run(store_url, work)
    assert rows(database) == [("a", "x", 2, 7), ("c", "x", 4, 7), ("d", "y", 5, 7)]


def test_ratings_that_come_together_are_one_revision_and_of_two_for_one_pair_the_later_stays(
    store_url: str, database: sa.Engine
) -> None:
    async def work(store: RatingsStore) -> None:
        puts = [given("a", "x", 1), given("b", "x", 2), given("a", "x", 3), given("a", "y", 4, 8)]
        assert await asyncio.gather(*map(store.change, puts)) == [1] * 4
        assert [found.revision for found in (await store.of(["a", "b"])).values()] == [1, 1]

    run(store_url, work)
    assert rows(database) == [("a", "x", 3, 7), ("a", "y", 4, 8), ("b", "x", 2, 7)]


def test_the_same_rating_twice_at_once_from_two_workers_is_one_of_them(store_url: str, database: sa.Engine) -> None:
    async def main() -> None:
        async with opened(store_url) as ours, opened(store_url) as theirs:
            for value in range(20):
                await asyncio.gather(ours.change(given("u", "a", value)), theirs.change(given("u", "a", -value)))
                assert abs(rows(database)[0][2]) == value

    asyncio.run(main())
    assert len(rows(database)) == 1


def test_a_bulk_is_stored_whole_and_of_two_for_one_pair_the_later_stays(store_url: str, database: sa.Engine) -> None:
    async def work(store: RatingsStore) -> None:
        users = [f"u{number % 70}" for number in range(3_000)]
        ratings = [Rating(f"i{number % 1000}", number % 5, number) for number in range(3_000)]
        await store.change(PutMany(users, ratings))
        wanted = dict(zip(zip(users, (rating.item for rating in ratings), strict=True), ratings, strict=True))
        assert {(user, item): (rating, time) for user, item, rating, time in rows(database)} == {
            pair: (rating.rating, rating.timestamp) for pair, rating in wanted.items()
        }
        stored = await store.of(list(dict.fromkeys(users)))
        assert sum(len(known.ratings) for known in stored.values()) == len(wanted)

    run(store_url, work)


def test_a_request_with_a_key_is_done_once(store_url: str, database: sa.Engine) -> None:
    async def main() -> None:
        async with opened(store_url) as store:
            bulk = PutMany(["u"], [Rating("a", 1, 7)], RequestKey("key", "print"))
            first = await store.change(bulk)
            await store.change(given("u", "a", 5))
            assert await store.change(bulk) == first
            assert rows(database) == [("u", "a", 5, 7)]
            with pytest.raises(RequestKeyError):
                await store.change(PutMany(["u"], [Rating("a", 2, 7)], RequestKey("key", "another print")))
        async with opened(store_url) as later:
            assert await later.change(bulk) == first
            assert rows(database) == [("u", "a", 5, 7)]

    asyncio.run(main())


def test_the_same_keyed_request_twice_at_once_is_done_once(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as ours, opened(store_url) as theirs:
            bulk = PutMany(["u"], [Rating("a", 1, 7)], RequestKey("key", "print"))
            revisions = await asyncio.gather(*(store.change(bulk) for store in (ours, theirs, ours)))
            assert len(set(revisions)) == 1

    asyncio.run(main())


def test_a_key_is_forgotten_after_a_week(store_url: str, database: sa.Engine) -> None:
    async def work(store: RatingsStore) -> None:
        first = await store.change(PutMany(["u"], [Rating("a", 1, 7)], RequestKey("old", "print")))
        with database.begin() as connection:
            connection.execute(sa.text("UPDATE ratecast_requests SET created = created - 7 * 86400 - 1"))
        await store.change(PutMany(["u"], [Rating("a", 2, 7)], RequestKey("new", "print")))
        assert await store.change(PutMany(["u"], [Rating("a", 1, 7)], RequestKey("old", "print"))) > first

    run(store_url, work)


def test_a_change_is_marked_before_it_is_acknowledged(store_url: str) -> None:
    async def main() -> None:
        changes = Revisions()
        async with opened(store_url, changes) as store:
            revision = await store.change(given("u", "a", 1))
            assert changes.table[changes.slot_of("u")] == changes.table[LATEST] == revision

    asyncio.run(main())


def test_a_store_that_is_opened_knows_who_has_ratings(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as store:
            await store.change(given("u", "a", 1))
            revision = await store.change(PutMany(["v", "w"], [Rating("a", 1, 7)] * 2))
        changes = Revisions()
        async with opened(store_url, changes):
            assert [changes.table[changes.slot_of(user)] for user in "uvwx"] == [1, revision, revision, 0]

    asyncio.run(main())


def test_what_another_service_stores_is_noticed(store_url: str) -> None:
    async def main() -> None:
        changes = Revisions()
        async with opened(store_url, changes) as ours, opened(store_url) as theirs:
            follower = asyncio.create_task(ours.follow())
            revision = await theirs.change(given("u", "a", 1))
            async with asyncio.timeout(60):
                while changes.table[changes.slot_of("u")] != revision:
                    await asyncio.sleep(0.01)
            follower.cancel()

    asyncio.run(main())


def test_of_many_users_who_share_a_revision_none_is_missed(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by who opens the store nor by who follows it, wherever a page of users ends."""
    monkeypatch.setattr(statements, "MAX_CHANGED", 7)
    monkeypatch.setattr(store_module, "MAX_CHANGED", 7)

    async def main() -> None:
        follows = Revisions()
        users = [f"u{number}" for number in range(45)]
        async with opened(store_url, follows) as ours, opened(store_url) as theirs:
            follower = asyncio.create_task(ours.follow())
            first = await theirs.change(PutMany(users[:20], [Rating("a", 1, 7)] * 20))
            alone = await theirs.change(given("alone", "a", 1))
            second = await theirs.change(PutMany(users[20:], [Rating("a", 1, 7)] * 25))
            async with asyncio.timeout(60):
                while follows.table[LATEST] != second or not all(follows.table[follows.slot_of(u)] for u in users):
                    await asyncio.sleep(0.01)
            follower.cancel()
        opens = Revisions()
        async with opened(store_url, opens):
            for changes in (opens, follows):
                assert {changes.table[changes.slot_of(user)] for user in users[:20]} == {first}
                assert {changes.table[changes.slot_of(user)] for user in users[20:]} == {second}
                assert changes.table[changes.slot_of("alone")] == alone

    asyncio.run(main())


def test_whoever_stores_is_told_how_much_went_together(store_url: str) -> None:
    told: list[Committed] = []

    async def main() -> None:
        store = RatingsStore(address(store_url), Revisions(), told.append)
        await store.start()
        await asyncio.gather(*(store.change(given("u", str(number), 1)) for number in range(100)))
        await store.close()

    asyncio.run(main())
    assert sum(transaction.changes for transaction in told) == 100
    assert len(told) < 10


def test_an_unknown_user_has_nothing_and_an_id_that_no_database_holds_neither(store_url: str) -> None:
    async def work(store: RatingsStore) -> None:
        assert await store.of(["nobody", "n\0l", "\ud800"]) == dict.fromkeys(["nobody", "n\0l", "\ud800"], StoredUser())

    run(store_url, work)
    assert [storable(id_) for id_ in ("ü \n", "n\0l", "\ud800")] == [True, False, False]


def test_more_users_than_fit_into_one_query_are_found(store_url: str) -> None:
    async def work(store: RatingsStore) -> None:
        users = [f"u{number}" for number in range(1_201)]
        await store.change(PutMany(users, [Rating("a", 3, 7)] * len(users)))
        found = await store.of(users)
        assert [len(found[user].ratings) for user in users] == [1] * len(users)

    run(store_url, work)


def test_of_a_user_with_very_many_ratings_the_first_are_read_and_others_are_complete(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_records, "MOST_RATINGS", 20)

    async def work(store: RatingsStore) -> None:
        users = [f"u{number}" for number in range(300)]
        await store.change(PutMany(users, [Rating("a", 3, 7)] * 300))
        for user in ("u7x", "u9x"):
            await store.change(PutMany([user] * 25, [Rating(f"i{number}", 3, 7) for number in range(10, 35)]))
        found = await store.of([*users, "u7x", "nobody", "u9x"])
        assert [(found[user].complete, len(found[user].ratings)) for user in users] == [(True, 1)] * 300
        assert found["nobody"] == StoredUser()
        for user in ("u7x", "u9x"):
            assert (found[user].complete, len(found[user].ratings)) == (False, 20)

    run(store_url, work)


def test_without_a_database_nothing_is_acknowledged_and_nothing_waits() -> None:
    async def main() -> None:
        async with opened("postgresql://nobody@127.0.0.1:1/nothing") as store:
            assert not store.available
            with pytest.raises(StoreUnavailableError):
                await store.change(given("u", "a", 1))
            with pytest.raises(StoreUnavailableError):
                await store.of(["u"])

    asyncio.run(main())


def test_a_database_that_comes_later_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "later"
        async with opened(f"sqlite:///{folder / 'ratings.sqlite'}") as store:
            assert not store.available
            follower = asyncio.create_task(store.follow())
            folder.mkdir()
            async with asyncio.timeout(60):
                while not store.available:
                    await asyncio.sleep(0.01)
            assert await store.change(given("u", "a", 1)) == 1
            follower.cancel()

    asyncio.run(main())


def test_a_store_is_counted_as_a_whole(store_url: str) -> None:
    async def work(store: RatingsStore) -> None:
        times = [0, 86_400, 86_401, 2 * 86_400 - 1, 5 * 86_400, 6 * 86_400]
        await store.change(PutMany(["u", "u", "v", "w", "w", "u"], [Rating(f"i{at}", 4, at) for at in times]))
        await store.change(Erase("gone"))
        before = await store.change(Erase("v"))
        await store.change(Put("u", Rating("i9", 4, 5 * 86_400 + 7)))
        found = await store.totals(before, 5 * 86_400 + 1, range(1, 6))
        assert found == Totals(
            ratings=6,
            users=2,
            items=6,
            erased_users=2,
            first=86_400,
            last=6 * 86_400,
            changed_users=1,
            later_ratings=2,
            days={1: 2, 5: 2},
        )

    run(store_url, work)


def test_items_of_one_keyed_request_are_stored_once_and_the_key_is_of_no_other(store_url: str) -> None:
    async def main() -> None:
        async with opened(store_url) as ours, opened(store_url) as theirs:
            key, hidden = RequestKey("key", "print"), StoredItem("a", hidden=True)
            await asyncio.gather(*(store.items.change([hidden], key) for store in (ours, theirs)))
            await ours.items.change([StoredItem("a")])
            await theirs.items.change([hidden], key)
            assert await ours.items.of("a") == StoredItem("a")
            for other in (
                ours.items.change([hidden], RequestKey("key", "another print")),
                ours.change(PutMany(["u"], [Rating("a", 2, 7)], RequestKey("key", "another print"))),
            ):
                with pytest.raises(RequestKeyError):
                    await other

    asyncio.run(main())


def test_of_items_that_many_patch_at_once_no_change_is_lost(store_url: str) -> None:
    def one_later(known: StoredItem | None) -> StoredItem:
        return StoredItem("a", year=1) if known is None else known._replace(year=(known.year or 0) + 1)

    def refuse(_: StoredItem | None) -> StoredItem:
        raise LookupError

    async def main() -> None:
        async with opened(store_url) as ours, opened(store_url) as theirs:
            await asyncio.gather(*(store.items.patch("a", one_later) for store in (ours, theirs) * 5))
            revision = (await ours.items.changed_after(0)).revision
            with pytest.raises(LookupError):
                await ours.items.patch("a", refuse)
            assert (await theirs.items.of("a"), (await ours.items.changed_after(0)).revision) == (
                StoredItem("a", year=10),
                revision,
            )

    asyncio.run(main())
