"""Prepares a database as a ratings store: creates its tables, or migrates them, under a lock.

Alembic needs a synchronous connection; all later work is asynchronous (`app.ratings.store`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from app.ratings.errors import StoreUnavailableError, StoreUnusableError
from app.ratings.tables import HEAD, VERSION_TABLE, metadata
from models.urls import has_ambiguous_password, masked, without_credentials

DRIVERS = {"sqlite": ("sqlite+pysqlite", "sqlite+aiosqlite"), "postgresql": ("postgresql+psycopg",) * 2}
AMBIGUOUS = "the store's URL has more than one @: write the characters @ : / of a password as %40 %3A %2F"
LOCK = 0x52617465  # number of PostgreSQL's advisory lock; arbitrary
LOCKED_SECONDS = 0.02  # between two tries
SECONDS = 5  # to connect, and for which a lock of SQLite is waited for


def address(text: str) -> URL:
    """The URL of a store. Raises StoreUnusableError if it is of neither SQLite nor PostgreSQL."""
    if has_ambiguous_password(text):
        raise StoreUnusableError(AMBIGUOUS)
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise StoreUnusableError(
            "the store's URL cannot be read; it should look like sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if "@" in (url.host or ""):  # the first was behind a question mark
        raise StoreUnusableError(AMBIGUOUS)
    if url.drivername == "postgres":
        url = url.set(drivername="postgresql")
    if url.get_backend_name() not in DRIVERS:
        raise StoreUnusableError(f"a ratings store must be SQLite or PostgreSQL, not {url.get_backend_name()}")
    if is_sqlite(url) and url.database in (None, "", ":memory:"):
        raise StoreUnusableError("a store in memory would be lost when the process ends; give the name of a file")
    return url


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def asynchronous(url: URL) -> URL:
    """For the asynchronous driver. A file of SQLite is opened, but not made: `prepare` does that."""
    if is_sqlite(url):
        existing = {**url.query, "mode": "rw", "uri": "true"}
        url = url.set(database=f"file:{quote(url.database or '')}", query=existing)
    return url.set(drivername=DRIVERS[url.get_backend_name()][1])


def connect_args(url: URL) -> dict[str, object]:
    """What connections are opened with. A host of PostgreSQL that is silent counts as lost, within 11 seconds."""
    if is_sqlite(url):
        return {"timeout": SECONDS}
    alive: dict[str, object] = {"keepalives_idle": SECONDS, "keepalives_interval": 2, "keepalives_count": 3}
    return {"connect_timeout": SECONDS, "tcp_user_timeout": 11_000} | alive  # milliseconds


def reason(error: BaseException, url: URL) -> str:
    """The message of the driver, on one line and without the password."""
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    return masked(said, [url.password]) or type(error).__name__


def prepare(url: URL) -> None:
    """Create the tables, or migrate them; one process does so at a time.

    Raises StoreUnusableError for foreign tables and for those of a newer release, StoreUnavailableError if the
    database does not answer.
    """
    try:
        engine = sa.create_engine(
            url.set(drivername=DRIVERS[url.get_backend_name()][0]),
            connect_args=connect_args(url),
            poolclass=sa.NullPool,
            **({"isolation_level": "AUTOCOMMIT"} if is_sqlite(url) else {}),
        )
        with engine.connect() as connection:
            if is_sqlite(url):
                _log_ahead(connection)
            if _version(connection) == HEAD:  # nothing to be done, so nobody to wait for
                return
            connection.rollback()
            with _locked(connection):
                _upgrade(connection, without_credentials(url))
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreUnusableError(
            f"{without_credentials(url)}: no driver for this kind of database ({error})"
        ) from error
    except DBAPIError as error:
        raise StoreUnavailableError(f"{without_credentials(url)}: {reason(error, url)}") from error


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """A transaction in which no other process prepares the store."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    yield
    connection.exec_driver_sql("COMMIT")


def _log_ahead(connection: Connection) -> None:
    """Set SQLite's write-ahead log, so that readers and the writer do not wait for one another."""
    give_up = time.monotonic() + SECONDS
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(LOCKED_SECONDS)
        else:
            return


def _upgrade(connection: Connection, name: str) -> None:
    found = _version(connection)
    if found == HEAD:
        return
    from alembic import command  # noqa: PLC0415 - takes 0.2 s, which a store that is up to date need not
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    with resources.as_file(resources.files("app.ratings") / "migrations") as folder:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        if found is None:
            _refuse_foreign(connection, name)
        elif found not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
            raise StoreUnusableError(f"{name} was written by a newer release: schema {found} instead of {HEAD}")
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    """The version of the schema; None if no migration was ever run."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version = sa.table(VERSION_TABLE, sa.column("version_num", sa.Text))
    return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()


def _refuse_foreign(connection: Connection, name: str) -> None:
    foreign = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise StoreUnusableError(
            f"{name} has a table {foreign[0]} of another program: give the store a database of its own"
        )
