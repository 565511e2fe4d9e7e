"""The ratings that users gave, durable: SQLite or PostgreSQL through SQLAlchemy's asynchronous Core.

Writes that arrive while a transaction is under way are the next transaction, so that many clients share one flush to
the disk. A change is acknowledged when it has been committed and marked for all workers (`app.ratings.revisions`).
While
the database is unreachable, reads and writes fail at once; `follow` notices when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.ratings import postgres_upsert, schema
from app.ratings.errors import RequestKeyError, StoreError, StoreUnavailableError
from app.ratings.revisions import Revisions
from app.ratings.tables import deletions, ratings, requests, store, users
from models.urls import without_credentials

T = TypeVar("T")

LOOK_SECONDS = 0.25  # how often changes that others made are looked for
RETRY_SECONDS = 0.5  # how often a database that is away is tried
ANSWER_SECONDS = 2.0  # that a read or a small write may take
BULK_SECONDS = 60.0  # that a bulk may take
TOGETHER = 512  # changes in one transaction; a hundred already make the flush to the disk cheap
WAITING = 8_192  # changes that may wait for one
KEYS_KEPT = 7 * 86_400  # seconds for which a request key is known
USERS_AT_ONCE = 500
CONNECTIONS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rating:
    """What a user gave an item, and when, in seconds since 1970."""

    item: str
    rating: float
    timestamp: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows of a user.

    Attributes:
        revision: of their last change, 0 where nothing is known.
        erased: the revision of their last erasure, 0 where there was none.
        ratings: in the order of the items' ids.
        deleted: items whose rating was taken back, by id.
    """

    revision: int = 0
    erased: int = 0
    ratings: tuple[Rating, ...] = ()
    deleted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Put:
    """A rating, in place of the one before it."""

    user: str
    rating: Rating


@dataclass(frozen=True, slots=True)
class Remove:
    """A rating that is taken back, be it stored or only in a model's training data."""

    user: str
    item: str


@dataclass(frozen=True, slots=True)
class Erase:
    """All that is known of a user."""

    user: str


@dataclass(frozen=True, slots=True)
class Bulk:
    """Many ratings in one transaction; of two for one pair the later stays.

    Attributes:
        users, ratings: as many of each.
        key: makes the request idempotent: with the same key and fingerprint it is done once. None: it is always done.
        fingerprint: of the request.
    """

    users: Sequence[str]
    ratings: Sequence[Rating]
    key: str | None = None
    fingerprint: str = ""


Change = Put | Remove | Erase | Bulk


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction: how many changes it made, and how long it took."""

    changes: int
    seconds: float


class RatingsStore:
    """The store at a URL.

    Args:
        url: as `schema.address` gives it.
        revisions: where changes are marked.
        tell: is told of each transaction.
    """

    def __init__(self, url: URL, revisions: Revisions, tell: Callable[[Committed], None] = lambda _: None) -> None:
        self.revisions = revisions
        self.id: str | None = None
        self._url = url
        self._tell = tell
        self._engine = _engine(url)
        self._by_itself = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._available = False
        self._seen = 0
        self._waiting: deque[tuple[Change, asyncio.Future[int]]] = deque()
        self._committing: asyncio.Task[None] | None = None

    @property
    def available(self) -> bool:
        """Whether the database answered when it was asked last."""
        return self._available

    async def start(self) -> None:
        """Make the tables and learn who has fresh ratings. A database that is away is left to `follow`.

        Raises StoreUnusableError for one that cannot be used at all.
        """
        try:
            await self._connect()
        except StoreUnavailableError as error:
            logger.warning("The ratings store is away: %s", error)

    async def follow(self) -> NoReturn:
        """For ever: notice what others change, and when a database that was away is back. No failure ends it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS if self._available else RETRY_SECONDS)
            try:
                if self._available:
                    await self._look()
                else:
                    await self._connect()
                    logger.info("The ratings store is there")
            except StoreError as error:
                logger.debug("The ratings store: %s", error)
            except Exception:
                logger.exception("The ratings store cannot be followed")

    async def of(self, ids: Sequence[str]) -> dict[str, Stored]:
        """What is known of some users. Raises StoreUnavailableError."""
        found: dict[str, Stored] = {}
        for at in range(0, len(ids), USERS_AT_ONCE):
            part = [id_ for id_ in ids[at : at + USERS_AT_ONCE] if storable(id_)]
            found |= dict.fromkeys(ids[at : at + USERS_AT_ONCE], Stored())
            if part:
                found |= await self._ask(partial(_of, ids=part))
        return found

    async def change(self, change: Change) -> int:
        """Make a change durable; gives its revision.

        Raises StoreUnavailableError, after which it may or may not have been made, and RequestKeyError.
        """
        if not self._available:
            raise StoreUnavailableError("the ratings store is away")
        if len(self._waiting) >= WAITING:
            raise StoreUnavailableError(f"{WAITING} changes are waiting to be stored already")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_waiting())
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Finish what was begun, and close the connections."""
        if self._committing is not None:
            await self._committing
        await self._engine.dispose()

    async def _connect(self) -> None:
        await _within(asyncio.to_thread(schema.prepare, self._url), BULK_SECONDS)
        self.id = await self._ask(_identity)
        self._available = True
        await self._look()

    async def _look(self) -> None:
        """Mark what was changed since the last look."""
        while True:
            rows = await self._ask(partial(_changed, since=self._seen))
            self.revisions.mark(rows)
            if rows:
                self._seen = rows[-1][1]
            if len(rows) < CHANGED_AT_ONCE:
                return

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            while self._waiting and len(batch) < TOGETHER and not _large(batch[-1][0], self._waiting[0][0]):
                batch.append(self._waiting.popleft())
            await self._commit([(change, done) for change, done in batch if not done.done()])
        self._committing = None

    async def _commit(self, batch: list[tuple[Change, asyncio.Future[int]]]) -> None:
        began = time.perf_counter()
        changes = [change for change, _ in batch]
        seconds = BULK_SECONDS if any(isinstance(change, Bulk) for change in changes) else ANSWER_SECONDS
        try:
            revision, changed, outcomes = await self._write(changes, seconds)
        except Exception as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
            return
        self.revisions.mark((user, revision) for user in changed)
        for (_, done), outcome in zip(batch, outcomes, strict=True):
            if done.done():
                continue
            if isinstance(outcome, StoreError):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)
        self._tell(Committed(len(batch), time.perf_counter() - began))

    async def _write(self, changes: Sequence[Change], seconds: float) -> _Written:
        puts = [change for change in changes if isinstance(change, Put)]
        if len(puts) < len(changes) or schema.is_sqlite(self._url):
            return await self._ask(partial(_write, changes=changes), seconds, self._engine.begin)
        return await self._ask(partial(_put_at_once, puts=puts), seconds, self._by_itself.connect)

    async def _ask(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        seconds: float = ANSWER_SECONDS,
        connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]] | None = None,
    ) -> T:
        """Do something on a connection; once more where a pooled one had been closed by the other side meanwhile.

        Raises StoreUnavailableError. All writes are such that doing them twice does no more than once.
        """
        try:
            try:
                return await _within(_on(connect or self._engine.connect, work), seconds)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return await _within(_on(connect or self._engine.connect, work), seconds)
        except (OperationalError, InterfaceError, PoolTimeoutError, OSError, TimeoutError) as error:
            self._away(error)
            raise StoreUnavailableError(f"the ratings store does not answer: {type(error).__name__}") from error

    def _away(self, error: BaseException) -> None:
        if self._available:
            self._available = False
            logger.warning("The ratings store is away: %s: %s", without_credentials(self._url), schema.reason(error))


def storable(id_: str) -> bool:
    """Whether a database can hold an id: PostgreSQL has no NUL, and UTF-8 no lone surrogate."""
    try:
        return b"\0" not in id_.encode()
    except UnicodeEncodeError:
        return False


def _large(last: Change, following: Change) -> bool:
    """Whether two changes are better made in transactions of their own."""
    return isinstance(last, Bulk) or isinstance(following, Bulk)


async def _on(
    connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]],
    work: Callable[[AsyncConnection], Awaitable[T]],
) -> T:
    async with connect() as connection:
        return await work(connection)


async def _within(work: Awaitable[T], seconds: float) -> T:
    """The result of some work. Raises TimeoutError after some seconds, whether or not the work can be cancelled."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait((task,), timeout=seconds)
    if not done:
        task.cancel()
        task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return task.result()


def _engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        schema.asynchronous(url),
        connect_args=schema.connect_args(url),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=ANSWER_SECONDS,
        pool_use_lifo=True,
    )
    if schema.is_sqlite(url):

        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: Any, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA synchronous=FULL")  # a commit is on the disk
            cursor.close()

    return engine


CHANGED_AT_ONCE = 10_000


async def _identity(connection: AsyncConnection) -> str:
    found: str = (await connection.execute(sa.select(store.c.id))).scalar_one()
    return found


async def _changed(connection: AsyncConnection, since: int) -> list[tuple[str, int]]:
    query = (
        sa.select(users.c.user, users.c.revision)
        .where(users.c.revision > since)
        .order_by(users.c.revision)
        .limit(CHANGED_AT_ONCE)
    )
    return [(user, revision) for user, revision in await connection.execute(query)]


_PEOPLE = sa.select(users).where(users.c.user.in_(sa.bindparam("ids", expanding=True)))
_RATINGS = (
    sa.select(ratings)
    .where(ratings.c.user.in_(sa.bindparam("ids", expanding=True)))
    .order_by(ratings.c.user, ratings.c.item)
)
_DELETIONS = sa.select(deletions).where(deletions.c.user.in_(sa.bindparam("ids", expanding=True)))


async def _of(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Stored]:
    people = {row.user: row for row in await connection.execute(_PEOPLE, {"ids": ids})}
    given: dict[str, list[Rating]] = {}
    for user, item, rating, timestamp in await connection.execute(_RATINGS, {"ids": ids}):
        given.setdefault(user, []).append(Rating(item, rating, timestamp))
    taken_back: dict[str, set[str]] = {}
    for user, item in await connection.execute(_DELETIONS, {"ids": ids}):
        taken_back.setdefault(user, set()).add(item)
    return {
        id_: Stored(
            people[id_].revision,
            people[id_].erased or 0,
            tuple(given.get(id_, ())),
            frozenset(taken_back.get(id_, ())) - {rating.item for rating in given.get(id_, ())},
        )
        for id_ in people
    }


@dataclass(slots=True)
class _Plan:
    """What some changes come to, one after the other: the last one of each pair, and whom to forget first."""

    puts: dict[tuple[str, str], Rating]
    removals: set[tuple[str, str]]
    erased: set[str]
    touched: dict[str, None]

    def put(self, user: str, rating: Rating) -> None:
        self.touched[user] = None
        self.removals.discard((user, rating.item))
        self.puts[user, rating.item] = rating

    def remove(self, user: str, item: str) -> None:
        self.touched[user] = None
        self.puts.pop((user, item), None)
        self.removals.add((user, item))

    def erase(self, user: str) -> None:
        self.touched[user] = None
        self.erased.add(user)
        self.puts = {pair: rating for pair, rating in self.puts.items() if pair[0] != user}
        self.removals = {pair for pair in self.removals if pair[0] != user}


_Written = tuple[int, list[str], list[int | StoreError]]  # the revision, who was changed, what came of each change


async def _put_at_once(connection: AsyncConnection, puts: Sequence[Put]) -> _Written:
    last = {(put.user, put.rating.item): (put.user, *astuple(put.rating)) for put in puts}
    revision = await postgres_upsert.put(connection, last.values())
    return revision, [*{put.user: None for put in puts}], [revision] * len(puts)


async def _write(connection: AsyncConnection, changes: Sequence[Change]) -> _Written:
    """Make some changes in the transaction of a connection.

    The lock on the store's row is taken first, so that transactions follow one another in the order of their revisions.
    """
    revision: int = (await connection.execute(_BUMP)).scalar_one()
    plan = _Plan({}, set(), set(), {})
    outcomes: list[int | StoreError] = []
    for change in changes:
        match change:
            case Put():
                plan.put(change.user, change.rating)
                outcomes.append(revision)
            case Remove():
                plan.remove(change.user, change.item)
                outcomes.append(revision)
            case Erase():
                plan.erase(change.user)
                outcomes.append(revision)
            case Bulk():
                earlier = await _earlier(connection, change, revision)
                if earlier is None:
                    for user, rating in zip(change.users, change.ratings, strict=True):
                        plan.put(user, rating)
                outcomes.append(revision if earlier is None else earlier)
    await _carry_out(connection, plan, revision)
    return revision, [*plan.touched], outcomes


async def _earlier(connection: AsyncConnection, bulk: Bulk, revision: int) -> int | StoreError | None:
    """What came of the request when its key was first used; None where that is now, and then the key is noted."""
    if bulk.key is None:
        return None
    query = sa.select(requests.c.fingerprint, requests.c.revision).where(requests.c.key == bulk.key)
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        now = int(time.time())
        await connection.execute(sa.delete(requests).where(requests.c.created < now - KEYS_KEPT))
        row = {"key": bulk.key, "fingerprint": bulk.fingerprint, "revision": revision, "created": now}
        await connection.execute(sa.insert(requests), [row])
        return None
    if found.fingerprint != bulk.fingerprint:
        return RequestKeyError("the Idempotency-Key was used for another request")
    first: int = found.revision
    return first


async def _carry_out(connection: AsyncConnection, plan: _Plan, revision: int) -> None:
    statements = _STATEMENTS[connection.dialect.name]
    if plan.erased:
        for statement in _FORGET_USER:
            await connection.execute(statement, [{"of": user} for user in plan.erased])
    if plan.removals:
        pairs = [{"of": user, "what": item} for user, item in plan.removals]
        await connection.execute(_FORGET_RATING, pairs)
        deleted = [{"user": user, "item": item} for user, item in plan.removals]
        await connection.execute(statements.note_deletion, deleted)
    if plan.puts:
        put = [
            {"user": user, "item": item, "rating": rating.rating, "timestamp": rating.timestamp}
            for (user, item), rating in plan.puts.items()
        ]
        await connection.execute(statements.put, put)
    if plan.touched:
        touched = [
            {"user": user, "revision": revision, "erased": revision if user in plan.erased else None}
            for user in plan.touched
        ]
        await connection.execute(statements.touch, touched)


class _Statements(NamedTuple):
    """What each kind of database says in its own way. They are made once: making them takes longer than they do."""

    note_deletion: sa.Insert
    put: sa.Insert
    touch: sa.Insert


def _statements(insert: Callable[[sa.Table], Any]) -> _Statements:
    put, touch = insert(ratings), insert(users)
    return _Statements(
        insert(deletions).on_conflict_do_nothing(),
        put.on_conflict_do_update(
            index_elements=[ratings.c.user, ratings.c.item],
            set_={"rating": put.excluded.rating, "timestamp": put.excluded.timestamp},
        ),
        touch.on_conflict_do_update(
            index_elements=[users.c.user],
            set_={
                "revision": touch.excluded.revision,
                "erased": sa.func.coalesce(touch.excluded.erased, users.c.erased),
            },
        ),
    )


_STATEMENTS = {"postgresql": _statements(postgresql.insert), "sqlite": _statements(sqlite.insert)}
_BUMP = sa.update(store).values(revision=store.c.revision + 1).returning(store.c.revision)
_FORGET_USER = [sa.delete(table).where(table.c.user == sa.bindparam("of")) for table in (ratings, deletions)]
_FORGET_RATING = sa.delete(ratings).where(ratings.c.user == sa.bindparam("of"), ratings.c.item == sa.bindparam("what"))
