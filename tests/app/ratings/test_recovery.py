"""What a ratings store does after something went wrong with its database: as soon as that is over, all works again."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ratings import schema
from app.ratings.database import CONNECTIONS, Database
from app.ratings.errors import StoreUnavailableError
from app.ratings.records import Put, PutMany, Rating
from app.ratings.revisions import LATEST, Revisions
from app.ratings.schema import address
from app.ratings.store import RatingsStore
from app.ratings.tables import catalogue, deletions, incoming, items, ratings, requests, users
from app.ratings.tables import store as store_table
from models.stored_items import StoredItem
from tests.app.ratings.test_store import opened
from tests.support.outages import FailedOver

TABLES = store_table, ratings, users, deletions, requests, items, catalogue, incoming
SOON = 20.0  # seconds; moments on an idle machine


@asynccontextmanager
async def followed(url: str, revisions: Revisions | None = None) -> AsyncIterator[RatingsStore]:
    """A store that looks for changes and reconnects, as in a service."""
    store = RatingsStore(address(url), revisions or Revisions())
    await store.start()
    follower = asyncio.create_task(store.follow())
    try:
        yield store
    finally:
        follower.cancel()
        await store.close()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of those who write."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def given(user: str, rating: float = 1.0) -> Put:
    return Put(user, Rating("a", rating, 7))


async def acknowledged_soon(store: RatingsStore, put: Put) -> None:
    async with asyncio.timeout(SOON):
        while True:
            try:
                await store.change(put)
            except StoreUnavailableError:
                await asyncio.sleep(0.01)
            else:
                return


@pytest.mark.parametrize("seconds", [2.3, pytest.param(4.5, marks=pytest.mark.slow)])
def test_a_lock_that_somebody_held_for_seconds_leaves_nothing_behind(tmp_path: Path, seconds: float) -> None:
    """While it is held, changes are refused in time and ratings are read; then changes are made, by others too."""
    file = tmp_path / "ratings.sqlite"

    async def main() -> None:
        async with followed(f"sqlite:///{file}") as ours, followed(f"sqlite:///{file}") as theirs:
            await ours.change(given("u"))
            with locked(file):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    began = time.monotonic()
                    with pytest.raises(StoreUnavailableError, match="locked by another process"):
                        await ours.change(given("u", 2.0))
                    assert time.monotonic() - began < SOON
                    assert (await ours.of(["u"]))["u"].ratings[0].rating == 1.0
            await acknowledged_soon(ours, given("u", 3.0))
            await acknowledged_soon(theirs, given("v", 3.0))
            with locked(file):  # nobody of ours has it
                pass

    asyncio.run(main())


@pytest.mark.slow
def test_a_bulk_does_not_wait_for_ever_behind_a_lock(store_url: str, database: sa.Engine) -> None:
    """It has a minute for its own work, but what comes after it, and the end of the service, would wait as long."""

    async def main() -> None:
        async with followed(store_url) as store:
            await store.change(given("u"))
            with database.connect() as other:
                other.execute(sa.update(store_table).values(revision=store_table.c.revision))
                began = time.monotonic()
                with pytest.raises(StoreUnavailableError, match="locked by another process"):
                    await store.change(PutMany(["u"], [Rating("b", 1.0, 7)]))
                assert time.monotonic() - began < SOON
                other.rollback()
            await acknowledged_soon(store, given("u"))

    asyncio.run(main())


ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(600)",
}


def test_work_past_its_time_is_rolled_back_and_its_connection_is_used_again(
    store_url: str, database: sa.Engine
) -> None:
    """More of it than there are connections, each of which has locked the row that every change locks."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("UPDATE ratecast_store SET revision = revision + 100"))
        await connection.execute(sa.text(ENDLESS[connection.dialect.name]))

    async def main() -> None:
        await asyncio.to_thread(schema.prepare, address(store_url))
        stopped = Database(address(store_url))
        for _ in range(CONNECTIONS + 2):
            with pytest.raises(StoreUnavailableError):
                await stopped.transact(work, 0.1)
        async with followed(store_url) as store:
            await acknowledged_soon(store, given("u"))
        await stopped.close()

    asyncio.run(main())
    with database.connect() as connection:
        assert connection.execute(sa.text("SELECT revision FROM ratecast_store")).scalar_one() == 1


def test_a_question_that_takes_too_long_does_not_make_the_store_count_as_unreachable(store_url: str) -> None:
    async def slow(connection: AsyncConnection) -> None:
        await connection.execute(sa.text(ENDLESS[connection.dialect.name]))

    async def main() -> None:
        async with followed(store_url) as store:
            await store.change(given("u"))
            with pytest.raises(StoreUnavailableError):
                await store.database._run(store.database._engine.connect, slow, 0.2)
            assert store.available
            assert (await store.of(["u"]))["u"].revision == 1

    asyncio.run(main())


def test_ratings_one_by_one_beside_bulks_of_another_service_are_stored_or_refused_and_go_on(
    store_url: str, database: sa.Engine
) -> None:
    """A bulk keeps the lock for as long as it takes. Whoever waits too long is refused; nobody is kept out later."""
    acknowledged: dict[str, float] = {}

    async def put(store: RatingsStore, number: int) -> None:
        for turn in range(30):
            try:
                await store.change(given(f"u{number}", turn))
                acknowledged[f"u{number}"] = turn
            except StoreUnavailableError:
                await asyncio.sleep(0.01)

    async def main() -> None:
        bulk = [PutMany([f"b{at}" for at in range(8_000)], [Rating("a", 1.0, turn)] * 8_000) for turn in range(3)]
        async with followed(store_url) as ours, followed(store_url) as theirs:
            await asyncio.gather(*(put(ours, number) for number in range(8)), *map(theirs.change, bulk))
            assert ours.available
            assert theirs.available
            await acknowledged_soon(ours, given("u"))
            await acknowledged_soon(theirs, given("u"))

    asyncio.run(main())
    with database.connect() as connection:
        rows = connection.execute(sa.text("""SELECT "user", rating, timestamp FROM ratings"""))
        found = {user: (rating, timestamp) for user, rating, timestamp in rows}
    assert {user: found[user][0] for user in acknowledged} == acknowledged
    assert {found[f"b{at}"][1] for at in range(8_000)} == {2}


def test_a_service_starts_and_reads_while_somebody_holds_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "ratings.sqlite"

    async def main() -> None:
        async with followed(f"sqlite:///{file}") as store:
            await store.change(given("u"))
        began = time.monotonic()
        with locked(file):
            async with followed(f"sqlite:///{file}") as store:
                assert (await store.of(["u"]))["u"].revision == 1
        assert time.monotonic() - began < SOON

    asyncio.run(main())


def test_a_standby_that_took_over_is_used_and_has_what_was_acknowledged(tmp_path: Path, postgres_url: str) -> None:
    """The quick case of the recovery matrix of PostgreSQL (`e2e/test_recovery_matrix.py`)."""
    outage = FailedOver(tmp_path)

    async def main() -> None:
        async with followed(outage.url) as store:
            await store.change(given("before"))
            outage.begin()
            with pytest.raises(StoreUnavailableError):
                await store.change(given("lost"))
            outage.end()
            await acknowledged_soon(store, given("after"))
            assert len((await store.of(["before"]))["before"].ratings) == 1

    with outage.prepared():
        asyncio.run(main())


def copy_of(database: sa.Engine) -> dict[sa.Table, list[dict[str, object]]]:
    with database.connect() as connection:
        return {table: [dict(row) for row in connection.execute(sa.select(table)).mappings()] for table in TABLES}


def restore(database: sa.Engine, copy: dict[sa.Table, list[dict[str, object]]]) -> None:
    with database.begin() as connection:
        connection.execute(sa.delete(incoming))
        for table, rows in copy.items():
            connection.execute(sa.delete(table))  # of SQLite's `incoming`, what a trigger noted of the ratings
            if rows:
                connection.execute(sa.insert(table), rows)


def test_after_a_restore_from_a_copy_everybody_is_read_anew_and_no_revision_comes_again(
    store_url: str, database: sa.Engine
) -> None:
    """Under two running services: who was changed before or since may be another now, and later changes are new."""

    async def main() -> None:
        ours, theirs = Revisions(), Revisions()
        async with followed(store_url, ours) as store, followed(store_url, theirs):
            await store.change(given("kept", 1.0))
            copy = copy_of(database)
            gone = [await store.change(given(user, 2.0)) for user in ("kept", "gone")]
            async with asyncio.timeout(60):
                while theirs.table[LATEST] < gone[-1]:
                    await asyncio.sleep(0.01)
            restore(database, copy)
            async with asyncio.timeout(60):
                for changes in (ours, theirs):
                    while not all(changes.table[changes.slot_of(user)] > gone[-1] for user in ("kept", "gone")):
                        await asyncio.sleep(0.01)
            found = await store.of(["kept", "gone"])
            assert [len(found[user].ratings) for user in ("kept", "gone")] == [1, 0]
            assert found["kept"].ratings[0].rating == 1.0
            later = await store.change(given("kept", 3.0))
            assert later > ours.table[ours.slot_of("gone")] > gone[-1]
            assert ours.table[ours.slot_of("kept")] == later

    asyncio.run(main())


@pytest.mark.parametrize("another_store", [False, True])
def test_after_a_restore_from_a_copy_all_items_are_read_anew_and_no_revision_comes_again(
    store_url: str, database: sa.Engine, another_store: bool
) -> None:
    """Of two services the first notices the copy, and the second that the first did; it knows a change less or more."""

    async def main() -> None:
        async with opened(store_url) as one, opened(store_url) as other:
            await one.items.change([StoredItem("kept")])
            copy = copy_of(database)
            if another_store:
                copy[store_table][0]["id"] = "another"
            await one.items.change([StoredItem("kept", hidden=True), StoredItem("gone")])
            await one.items.change([StoredItem("gone too")])
            known = [await store.items.changed_after(0) for store in (one, other)]
            restore(database, copy)
            found = await one.items.changed_after(known[0].revision, known[0].reading)
            assert (found.changed["id"].to_pylist(), found.changed["hidden"].to_pylist()) == (["kept"], [False])
            assert found.reading != known[0].reading
            assert found.revision > known[0].revision
            for revision in (known[1].revision - 1, known[1].revision + 1):
                theirs = await other.items.changed_after(revision, known[1].reading)
                assert (theirs.changed["id"].to_pylist(), theirs.revision) == (["kept"], found.revision)
                assert theirs.reading != known[1].reading
            again = await one.items.changed_after(found.revision, found.reading)
            assert (len(again.changed), again.reading) == (0, found.reading)
            await other.items.change([StoredItem("new")])
            later = await one.items.changed_after(found.revision, found.reading)
            assert (later.changed["id"].to_pylist(), later.revision) == (["new"], found.revision + 1)

    asyncio.run(main())


def test_all_items_are_read_anew_when_the_store_is_reached_again(tmp_path: Path) -> None:
    """Nobody has seen what happened meanwhile: the revision may be one that was known, of other items."""
    file = tmp_path / "ratings.sqlite"

    async def main() -> None:
        async with followed(f"sqlite:///{file}") as store:
            await store.items.change([StoredItem("a")])
            known = await store.items.changed_after(0)
            file.rename(tmp_path / "away.sqlite")
            with pytest.raises(StoreUnavailableError):
                await store.items.changed_after(known.revision, known.reading)
            (tmp_path / "away.sqlite").rename(file)
            async with asyncio.timeout(SOON):
                while not store.available:
                    await asyncio.sleep(0.01)
            found = await store.items.changed_after(known.revision, known.reading)
            assert (found.revision, found.changed["id"].to_pylist()) == (known.revision, ["a"])
            assert found.reading != known.reading

    asyncio.run(main())


def test_a_store_that_is_behind_a_model_fitted_on_it_gets_ahead_of_it(store_url: str) -> None:
    """A restart after a restore: else the changes up to the model's revision would count as fitted."""

    async def main() -> None:
        async with followed(store_url) as store:
            assert await store.change(given("u")) == 1
            assert store.id is not None
            store.note_fit(store.id, 60)
            store.note_fit("another store", 10**9)
            async with asyncio.timeout(60):
                while await store.change(given("u")) <= 60:
                    await asyncio.sleep(0.01)
            assert await store.change(given("u")) < 10**8

    asyncio.run(main())


@pytest.mark.parametrize(
    "name", ["ratings.sqlite", pytest.param("ratings of 50% # & ü?.sqlite", marks=pytest.mark.slow)]
)
def test_no_change_is_acknowledged_while_the_file_of_the_store_is_away_and_none_is_lost(
    tmp_path: Path, name: str
) -> None:
    """Neither in the deleted file, which still is open, nor in an empty one or another one in its place."""
    file, other, moved = tmp_path / name, tmp_path / "other.sqlite", tmp_path / "moved.sqlite"

    async def main() -> None:
        async with followed(url(other)) as store:
            await store.change(given("of another store"))
        async with followed(url(file)) as store:
            await store.change(given("before"))
            file.rename(moved)
            for _ in range(3):
                with pytest.raises(StoreUnavailableError):
                    await store.change(given("while it is away"))
                await asyncio.sleep(0.3)
            assert not file.exists()
            other.rename(file)
            await asyncio.sleep(1.0)
            with pytest.raises(StoreUnavailableError):
                await store.change(given("while another is there"))
            file.rename(other)
            moved.rename(file)
            await acknowledged_soon(store, given("after"))

    def url(path: Path) -> str:
        return f"sqlite:///{quote(str(path))}" if "%" in name else f"sqlite:///{path}"

    asyncio.run(main())
    with closing(sqlite3.connect(file)) as database:
        stored = {user for (user,) in database.execute('SELECT "user" FROM ratings')}
    assert {"before", "after"} <= stored
    assert "of another store" not in stored
