"""Connections to the database of a ratings store: pooled, with time limits, and retried when a connection broke."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.ratings import schema
from app.ratings.errors import StoreUnavailableError
from models.urls import without_credentials

T = TypeVar("T")
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncConnection]]
Work: TypeAlias = Callable[[AsyncConnection], Awaitable[T]]

ANSWER_SECONDS = 2.0  # time limit of a read or a small write
BULK_SECONDS = 60.0  # time limit of a bulk
CONNECTIONS = 8

logger = logging.getLogger(__name__)


class Database:
    """The database at a URL. Its methods raise StoreUnavailableError if it does not answer in time.

    Attributes:
        url: as `schema.address` gives it.
        available: whether the database answered the last request.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.available = False
        self._under_way: set[asyncio.Task[Any]] = set()
        self._engine = _engine(url)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def prepare(self) -> None:
        """Make the tables, or bring them up to date. Raises StoreUnusableError too."""
        await self._within(asyncio.to_thread(schema.prepare, self.url), BULK_SECONDS)

    async def read(self, work: Work[T]) -> T:
        """Do some work that changes nothing."""
        return await self._run(self._engine.connect, work, ANSWER_SECONDS)

    async def transact(self, work: Work[T], seconds: float) -> T:
        """Do some work in a transaction; again if the connection broke, so doing it twice must change nothing."""
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
        try:
            try:
                return await self._within(_on(connect, work), seconds)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return await self._within(_on(connect, work), seconds)  # the database had closed a pooled connection
        except (OperationalError, InterfaceError, PoolTimeoutError, OSError, TimeoutError) as error:
            if self.available:
                self.available = False
                name, reason = without_credentials(self.url), schema.reason(error, self.url)
                logger.warning("The ratings store %s is unreachable; retrying: %s", name, reason)
            raise StoreUnavailableError(f"the ratings store does not answer: {type(error).__name__}") from error

    async def _within(self, work: Awaitable[T], seconds: float) -> T:
        """The result of some work. Raises TimeoutError after some seconds, whether or not the work can be cancelled.

        If the caller is cancelled, the work goes on, because a driver loses a connection that it is cancelled on.
        """
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait((task,), timeout=seconds)
        if not done:
            task.cancel()
            raise TimeoutError(f"no answer within {seconds:g} seconds")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio logs an exception that nothing has read


async def _on(connect: Connect, work: Work[T]) -> T:
    async with connect() as connection:
        return await work(connection)


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
