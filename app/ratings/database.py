"""Connections to the database of a ratings store: pooled, with time limits, and retried when a connection broke.

Work that does not end in time is stopped in the database and rolled back, and its connection is given back or closed: a
lock or a place in the pool that it kept would keep others out.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.ratings import schema
from app.ratings.errors import StoreUnavailableError
from app.ratings.tables import store
from models.urls import without_credentials

T = TypeVar("T")
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncConnection]]
Work: TypeAlias = Callable[[AsyncConnection], Awaitable[T]]

ANSWER_SECONDS = 2.0  # time limit of a read or a small write
BULK_SECONDS = 60.0  # time limit of a bulk
LOCK_SECONDS = 0.5  # for which SQLite waits for a lock before it is asked again, so that a wait can end
LOCKED_SECONDS = 4.0  # for a lock in all, also of a bulk: changes that come after it wait for it
PREPARED_SECONDS = 8.0  # in which a database that was prepared before is found to be so
PROBE_SECONDS = 1.0  # in which a database that can be read answers the smallest question
STOP_SECONDS = 0.05  # between two attempts to stop a statement
CONNECTIONS = 8
REOPEN_SECONDS = 0.5  # between two times when all connections are closed
REOPEN_LOOK = 0.005
OF_FILE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
}

LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's number of this error

logger = logging.getLogger(__name__)
_LOCK_TIMEOUT = sa.text(f"SET LOCAL lock_timeout = '{LOCKED_SECONDS}s'")


class Database:
    """The database at a URL. Its methods raise StoreUnavailableError if it does not do in time what it is asked.

    Before `prepare` has succeeded once, nothing else is asked of it: its tables may be missing.

    Attributes:
        url: as `schema.address` gives it.
        available: whether the database can be read. After a failure a probe decides that: a slow question, the lock of
            another process or a full disk are no reason to keep others from reading.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.available = False
        self._prepared = False
        self._under_way: set[asyncio.Future[Any]] = set()
        self._probing: asyncio.Task[None] | None = None
        self._trouble = ""  # that was logged last
        self._open = asyncio.Event()  # whether connections may be opened
        self._open.set()
        self._in_use = 0  # connections
        self._reopen_after = 0.0  # all connections are not closed again before that time
        self._file: tuple[int, int] | None = None  # which file of SQLite is open, None before one is
        self._engine = _engine(url)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._probes = _engine(url, poolclass=sa.NullPool)  # not from the pool, all of which may be waiting

    async def prepare(self) -> None:
        """Make the tables, or bring them up to date. Raises StoreUnusableError too."""
        self._check_file()
        seconds = PREPARED_SECONDS if self._prepared else BULK_SECONDS
        await self._within(asyncio.to_thread(schema.prepare, self.url), seconds, [])
        self._file = _identity(self.url)
        self._prepared = True

    async def read(self, work: Work[T], seconds: float = ANSWER_SECONDS) -> T:
        """Do some work that changes nothing."""
        return await self._run(self._engine.connect, work, seconds)

    async def transact(self, work: Work[T], seconds: float) -> T:
        """Do some work in a transaction, again if the connection broke: that must not change the outcome."""
        if not schema.is_sqlite(self.url) and seconds > LOCKED_SECONDS:
            work = partial(_with_lock_timeout, work=work)
        return await self._run(self._engine.begin, work, seconds)

    async def execute(self, work: Work[T], seconds: float) -> T:
        """As `transact`, for a single statement, which the database makes a transaction by itself."""
        return await self._run(self._autocommit.connect, work, seconds)

    async def close(self) -> None:
        """Close the connections when no work uses them any more, at most after some seconds."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=ANSWER_SECONDS)
        await self._engine.dispose()

    async def _run(self, connect: Connect, work: Work[T], seconds: float) -> T:
        if not self._prepared:
            raise StoreUnavailableError("the ratings store has not been reached yet")
        began, broken = time.monotonic(), False
        give_up, patience = began + seconds, began + min(seconds, LOCKED_SECONDS)
        while True:
            connections: list[AsyncConnection] = []
            try:
                result = await self._within(
                    self._on(connect, work, connections), give_up - time.monotonic(), connections
                )
            except DBAPIError as error:
                passing = error.connection_invalidated and not broken
                broken = broken or error.connection_invalidated  # the database had closed a pooled connection
                passing = passing or (_is_locked(error) and time.monotonic() + LOCK_SECONDS <= patience)
                if not passing or time.monotonic() + LOCK_SECONDS > give_up:
                    await self._fail(error)
            except (PoolTimeoutError, OSError, TimeoutError) as error:
                await self._fail(error)
            else:
                self._check_file()
                self._trouble = ""
                return result

    async def _on(self, connect: Connect, work: Work[T], connections: list[AsyncConnection]) -> T:
        """Do some work on a connection, which is noted in `connections`."""
        await self._open.wait()
        self._in_use += 1
        try:
            async with connect() as connection:
                connections.append(connection)
                return await work(connection)
        except DBAPIError as error:
            if _is_of_file(error) and self._open.is_set() and time.monotonic() >= self._reopen_after:
                self._open.clear()
                self._watch(asyncio.ensure_future(self._reopen()))
            raise
        finally:
            self._in_use -= 1

    async def _reopen(self) -> None:
        """Close all connections before another one is opened, because SQLite could not use its file.

        Those of one process share what the first of them was allowed to do with it, until the last is closed.
        """
        give_up = time.monotonic() + ANSWER_SECONDS
        while self._in_use and time.monotonic() < give_up:
            await asyncio.sleep(REOPEN_LOOK)
        try:
            await self._engine.dispose()
        finally:
            self._reopen_after = time.monotonic() + REOPEN_SECONDS
            self._open.set()

    def _check_file(self) -> None:
        """Raise StoreUnavailableError where what was written is in a file that is not there any more.

        Connections to another file in its place would be unsafe: both would use the same name for their log.
        """
        if self._file is not None and self._file != _identity(self.url):
            if self.available:
                self.available = False
                logger.warning(
                    "The file of the ratings store %s was deleted or replaced; put it back, or restart the service",
                    self._name,
                )
            raise StoreUnavailableError("the file of the ratings store was deleted or replaced")

    async def _fail(self, error: Exception) -> NoReturn:
        """Raise StoreUnavailableError for what the database did not do, once it is known whether it can be read."""
        if isinstance(error, DBAPIError) and not _is_of_database(error):
            raise error
        trouble = schema.reason(error, self.url)
        if self.available and trouble != self._trouble:
            self._trouble = trouble
            logger.warning("The ratings store %s does not do what it is asked: %s", self._name, trouble)
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe())
        await asyncio.shield(self._probing)
        reason = "locked by another process" if _is_locked(error) else type(error).__name__
        raise StoreUnavailableError(f"the ratings store does not answer: {reason}") from error

    async def _probe(self) -> None:
        """Find out whether the database can be read."""
        connections: list[AsyncConnection] = []
        try:
            await self._within(self._on(self._probes.connect, _ask, connections), PROBE_SECONDS, connections)
        except (DBAPIError, OSError, TimeoutError) as error:
            if self.available:
                self.available = False
                logger.warning(
                    "The ratings store %s is unreachable; retrying: %s", self._name, schema.reason(error, self.url)
                )
        finally:
            self._probing = None

    @property
    def _name(self) -> str:
        return without_credentials(self.url)

    async def _within(self, work: Awaitable[T], seconds: float, connections: list[AsyncConnection]) -> T:
        """The result of some work. Raises TimeoutError after some seconds; the work is then stopped meanwhile.

        If the caller is cancelled, the work goes on, because a driver loses a connection that it is cancelled on.
        """
        task = asyncio.ensure_future(work)
        self._watch(task)
        done, _ = await asyncio.wait((task,), timeout=max(seconds, 0))
        if not done:
            if connections and schema.is_sqlite(self.url):
                self._watch(asyncio.ensure_future(_interrupt(task, connections[0])))
            else:
                task.cancel()  # psycopg cancels the statement in the server
            raise TimeoutError(f"no answer within {seconds:.2g} seconds")
        return task.result()

    def _watch(self, task: asyncio.Future[Any]) -> None:
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio logs an exception that nothing has read


async def _with_lock_timeout(connection: AsyncConnection, work: Work[T]) -> T:
    await connection.execute(_LOCK_TIMEOUT)
    return await work(connection)


async def _ask(connection: AsyncConnection) -> None:
    await connection.execute(sa.select(store.c.revision))


async def _interrupt(task: asyncio.Future[Any], connection: AsyncConnection) -> None:
    """Interrupt the statements of SQLite until the task has ended, which then has rolled back.

    A task that is cancelled leaves its statement to the thread of the connection. It gets the lock in the end, and
    keeps it.
    """
    while not task.done():
        with suppress(AttributeError, DBAPIError, ValueError, sqlite3.Error):  # between two statements, or closed
            await connection.sync_connection.connection.driver_connection.interrupt()  # type: ignore[union-attr]
        await asyncio.wait((task,), timeout=STOP_SECONDS)


def _identity(url: URL) -> tuple[int, int] | None:
    """Which file a database of SQLite is, None for other databases and where there is no file."""
    if not schema.is_sqlite(url) or url.database is None:
        return None
    try:
        found = Path(url.database).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_of_database(error: DBAPIError) -> bool:
    """Whether the database is the reason, and not what it was asked: it is damaged, or lets nobody write just now."""
    return isinstance(error, OperationalError | InterfaceError | InternalError) or type(error) is DatabaseError


def _is_of_file(error: DBAPIError) -> bool:
    """Whether SQLite cannot use its file, for the time being or in the way that it was opened."""
    code: int = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF in OF_FILE


def _is_locked(error: Exception) -> bool:
    """Whether the database gave up because another connection has the lock. Nothing was done then."""
    cause = getattr(error, "orig", None)
    code: int = getattr(cause, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY or getattr(cause, "sqlstate", None) == LOCK_NOT_AVAILABLE


def _engine(url: URL, **pool: Any) -> AsyncEngine:
    if not pool:
        pool = {
            "pool_size": CONNECTIONS,
            "max_overflow": 0,
            "pool_timeout": ANSWER_SECONDS,
            "pool_use_lifo": True,
        }
    sqlite = schema.is_sqlite(url)
    arguments = schema.connect_args(url) | ({"timeout": LOCK_SECONDS} if sqlite else {})
    engine = create_async_engine(schema.asynchronous(url), connect_args=arguments, **pool)
    if sqlite:

        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: Any, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA synchronous=FULL")  # a commit is on the disk
            cursor.close()

    return engine
