"""What can happen to the database of a ratings store, done for real and undone."""

from __future__ import annotations

import sqlite3
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

from tests.support import ROOT
from tests.support.postgres import PORT, Line, Postgres, postgres

HEADER = 100  # bytes of a file of SQLite that say what it is


class Outage(ABC):
    """A trouble of a database: the URL of the store, and what begins and ends it.

    Attributes:
        within: the command that the service has to be run by (`tests.support.service.serving`).
        jobs_within: the same for `fit` and `import`.
        allows_a_start: whether a service that starts meanwhile uses this database when the trouble is over.
    """

    within: tuple[str, ...] = ()
    jobs_within: tuple[str, ...] = ()
    allows_a_start = True

    url: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """The database is there while the block runs."""
        yield

    def copied(self) -> str:
        """The URL of the database, or of a copy, when nobody uses it any more."""
        return self.url

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class OfFile(Outage):
    """A trouble of a file of SQLite."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = folder / "ratings.sqlite"
        self.url = f"sqlite:///{self.file}"


class Locked(OfFile):
    """Another process holds the lock of those who write."""

    def begin(self) -> None:
        self._other = sqlite3.connect(self.file, isolation_level=None, timeout=30)
        self._other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


class ReadOnly(OfFile):
    """The service may not write the files any more; root too needs a permission for it."""

    within = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "store")
        self.folder.mkdir()

    def begin(self) -> None:
        self._set(0o444, 0o555)

    def end(self) -> None:
        self._set(0o644, 0o755)

    def _set(self, files: int, folder: int) -> None:
        for file in self.folder.iterdir():
            file.chmod(files)
        self.folder.chmod(folder)


class Deleted(OfFile):
    """The file is away, and then back."""

    allows_a_start = False  # it would make a new one

    def begin(self) -> None:
        self.file.rename(self.folder / "moved")

    def end(self) -> None:
        (self.folder / "moved").rename(self.file)


class DiskFull(OfFile):
    """A small disk of its own, in another namespace, so that no privilege is needed."""

    @contextmanager
    def prepared(self) -> Iterator[None]:
        self.folder = self.folder / "disk"
        self.folder.mkdir()
        self.url = f"sqlite:///{self.folder / 'ratings.sqlite'}"
        script = f'mount -t tmpfs -o size=4m tmpfs "{self.folder}" && echo mounted && exec sleep 1000'
        command = ["unshare", "-rm", "sh", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == "mounted\n"
                self._disk = Path(f"/proc/{holder.pid}/root") / self.folder.relative_to("/")
                self.within = self.jobs_within = (
                    "nsenter",
                    "-t",
                    str(holder.pid),
                    "-U",
                    "-m",
                    f"--wd={ROOT}",
                    "--preserve-credentials",
                )
                yield
            finally:
                holder.kill()

    def begin(self) -> None:
        with (self._disk / "ballast").open("wb", buffering=0) as ballast:
            for size in (1 << 16, 4096):
                with suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass

    def end(self) -> None:
        (self._disk / "ballast").unlink()

    def copied(self) -> str:
        for file in self._disk.iterdir():
            (self.folder / file.name).write_bytes(file.read_bytes())
        return self.url


class Corrupt(OfFile):
    """The beginning of the file is lost, and comes back from a copy."""

    def begin(self) -> None:
        with self.file.open("r+b", buffering=0) as stream:
            self._header = stream.read(HEADER)
            stream.seek(0)
            stream.write(bytes(HEADER))

    def end(self) -> None:
        with self.file.open("r+b", buffering=0) as stream:
            if stream.read(HEADER) == bytes(HEADER):
                stream.seek(0)
                stream.write(self._header)


class OfServer(Outage):
    """A trouble of a server of PostgreSQL, or of the way to it."""

    server: Postgres

    @contextmanager
    def prepared(self) -> Iterator[None]:
        with postgres() as self.server, ExitStack() as self.opened:
            self.prepare()
            yield

    def prepare(self) -> None:
        """Set the URL, and what is needed besides the server."""
        self.url = self.server.url

    def copied(self) -> str:
        return self.server.url


class Stopped(OfServer):
    """The server is stopped for a while."""

    def begin(self) -> None:
        self.server.stop()

    def end(self) -> None:
        self.server.start()


class Restarted(OfServer):
    """The server is killed and started, and at the end stopped and started."""

    def begin(self) -> None:
        self.server.kill()
        self.server.start()

    def end(self) -> None:
        self.server.stop()
        self.server.start()


class FailedOver(OfServer):
    """The server is lost. Its standby takes over; the store's URL names both."""

    def prepare(self) -> None:
        self._standby = self.opened.enter_context(self.server.standby())
        hosts = f"{self.server.folder},{self._standby.folder}"
        self.url = f"postgresql://postgres@/postgres?host={hosts}&port={PORT},{PORT}&target_session_attrs=read-write"

    def begin(self) -> None:
        self.server.kill()

    def end(self) -> None:
        self._standby.promote()

    def copied(self) -> str:
        return self._standby.url


class OfLine(OfServer):
    """The server is reached by TCP."""

    def prepare(self) -> None:
        self.line = self.opened.enter_context(Line(self.server.folder))
        self.url = f"postgresql://postgres@127.0.0.1:{self.line.port}/postgres"


class Silenced(OfLine):
    """The server's host is cut off, so that no connection ends. Its standby takes over, and its address."""

    def prepare(self) -> None:
        self._standby = self.opened.enter_context(self.server.standby())
        super().prepare()

    def begin(self) -> None:
        self.line.to = self.folder  # where nobody listens
        self.line.silence()

    def end(self) -> None:
        self.server.kill()
        self._standby.promote()
        self.line.to = self._standby.folder

    def copied(self) -> str:
        return self._standby.url


class Slow(OfLine):
    """Whatever passes between the service and the server takes long."""

    def begin(self) -> None:
        self.line.delay = 1.5

    def end(self) -> None:
        self.line.delay = 0.0


class RowLocked(OfServer):
    """Another session holds the row that every change locks."""

    def begin(self) -> None:
        self._other = self.server.connect()
        self._other.autocommit = False
        self._other.execute("UPDATE ratecast_store SET revision = revision")

    def end(self) -> None:
        self._other.rollback()
        self._other.close()


class UsedUp(OfServer):
    """Others have all connections that the server allows, also those that the service had."""

    def prepare(self) -> None:
        super().prepare()
        self.server.set(max_connections="20")
        self.server.stop()
        self.server.start()
        self._others: list[psycopg.Connection[object]] = []

    def begin(self) -> None:
        self._take_all()
        self._others[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'others'"
            " AND backend_type = 'client backend'"
        )
        self._take_all()

    def _take_all(self) -> None:
        with suppress(psycopg.OperationalError):
            while True:
                self._others.append(psycopg.connect(self.server.url, autocommit=True, application_name="others"))

    def end(self) -> None:
        for other in self._others:
            other.close()


POSTGRESQL = (Stopped, Restarted, FailedOver, Silenced, Slow, RowLocked, UsedUp)
SQLITE = (Locked, ReadOnly, Deleted, DiskFull, Corrupt)
