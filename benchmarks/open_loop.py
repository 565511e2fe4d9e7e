"""Latency at a rate: requests leave at fixed times whether or not earlier ones have been answered.

    python -m benchmarks.open_loop --port PORT --requests FILE… --rate R --seconds S [--connections N]

A request's latency counts from when it was due, so a server that stalls cannot hide the requests that it held up
(coordinated omission). Timers here have a resolution of 1 ms, which the latencies include. Each file holds one whole
HTTP/1.1 request; they are sent in turn. Prints one JSON object: percentiles in milliseconds, the rate achieved, errors.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import time
from collections import deque
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 64
TICK = 0.0005  # seconds between looks at the clock
PATIENCE = 10.0  # seconds for what was sent to be answered
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Client:
    """Sends requests over a pool of connections; those that find none free wait, and their wait counts."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, float]] = deque()
        self.idle: list[Connection] = []
        self.latencies: list[float] = []
        self.errors = 0

    def send(self, request: bytes, due: float) -> None:
        if self.idle:
            self.idle.pop().send(request, due)
        else:
            self.waiting.append((request, due))

    def done(self, connection: Connection, due: float, status: bytes) -> None:
        self.latencies.append(time.perf_counter() - due)
        self.errors += status != b"200"
        if self.waiting:
            connection.send(*self.waiting.popleft())
        else:
            self.idle.append(connection)


class Connection(asyncio.Protocol):
    def __init__(self, client: Client) -> None:
        self.client = client
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.client.idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.received = b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = LENGTH.search(self.received, 0, head)
        assert length is not None
        if len(self.received) >= head + 4 + int(length[1]):
            self.client.done(self, self.due, self.received[9:12])

    def connection_lost(self, _: Exception | None) -> None:
        self.client.errors += 1


async def drive(port: int, requests: list[bytes], rate: float, seconds: float, connections: int) -> dict[str, float]:
    loop, client = asyncio.get_running_loop(), Client()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(client), "127.0.0.1", port)
    count = int(rate * seconds)
    start = time.perf_counter() + 0.1
    sent = 0
    while sent < count:
        due_now = min(count, int((time.perf_counter() - start) * rate) + 1)
        for number in range(sent, due_now):
            client.send(requests[number % len(requests)], start + number / rate)
        sent = max(sent, due_now)
        await asyncio.sleep(TICK)
    give_up = time.perf_counter() + PATIENCE
    while len(client.latencies) < count and time.perf_counter() < give_up:
        await asyncio.sleep(0.01)
    lost = count - len(client.latencies)
    milliseconds = sorted(latency * 1e3 for latency in client.latencies) + [PATIENCE * 1e3] * lost
    figures = {f"p{level}": milliseconds[int(len(milliseconds) * level / 100)] for level in (50, 99, 99.9)}
    took = time.perf_counter() - start
    return figures | {"rate": len(client.latencies) / took, "errors": client.errors + lost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=Path, nargs="+", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    arguments = parser.parse_args()
    gc.disable()  # a pause of this program would count as the server's
    requests = [file.read_bytes() for file in arguments.requests]
    figures = drive(arguments.port, requests, arguments.rate, arguments.seconds, arguments.connections)
    print(json.dumps(uvloop.run(figures)))


if __name__ == "__main__":
    main()
