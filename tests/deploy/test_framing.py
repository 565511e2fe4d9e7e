"""The service and the proxy of the compose file agree on where each request ends, or the service closes."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import zip_longest

import pytest

from tests.support.framing import Read, Streams, exchange, recorder, service
from tests.support.ports import held_port
from tests.support.proxy import proxy

ADDRESS = "127.0.0.2"
EXCHANGES, TOGETHER = 2_400, 24
SECONDS = 4.0  # without an answer: longer than the service waits for the rest of a request


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_service_and_the_proxy_read_the_same_requests_or_the_service_closes() -> None:
    """Each stream goes to a server that reads as the service does, and to the proxy before a recorder."""
    streams = Streams(seed=0)
    outcomes: Counter[str] = Counter()
    disagreements: list[tuple[bytes, object]] = []

    async def compare(alone: int, before: int, stream: bytes) -> None:
        ours, theirs = await asyncio.gather(exchange(alone, stream, SECONDS), exchange(before, stream, SECONDS))
        outcomes["all" if ours == theirs else "closed"] += 1
        if not agree(ours, theirs):
            disagreements.append((stream, (ours, theirs)))

    async def main(alone: int) -> None:
        with held_port([ADDRESS]) as port:
            server = await asyncio.start_server(recorder, ADDRESS, port)
            with proxy([ADDRESS], port) as found:
                await asyncio.to_thread(found.until_ready, 1)
                waiting = [streams.next() for _ in range(EXCHANGES)]

                async def some() -> None:
                    while waiting:
                        await compare(alone, found.port, waiting.pop())

                await asyncio.gather(*(some() for _ in range(TOGETHER)))
            server.close()
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=30)  # the proxy has closed all

    with service() as port:
        asyncio.run(main(port))
    assert disagreements == []
    assert outcomes.total() == EXCHANGES
    assert outcomes["all"] > EXCHANGES / 5  # else the test would compare nothing


def agree(ours: Read, theirs: Read) -> bool:
    """Whether both read the same requests, as far as both read any, and the service has closed where it read fewer.

    What the proxy refuses, and closes, no service behind it gets; the service may read it.
    """
    for our, their in zip_longest(ours.requests, theirs.requests):
        if our != their:
            if our is None or our.startswith("refused"):
                return ours.closed
            return (their is None or their.startswith("refused")) and theirs.closed
    return ours.closed or not theirs.closed


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        (Read(["a", "b"], True), Read(["a", "b"], True), True),
        (Read(["a", "b"], False), Read(["a", "b"], True), False),
        (Read(["a"], False), Read(["a"], False), True),
        (Read(["a", "refused 400"], True), Read(["a", "b"], True), True),
        (Read(["a"], True), Read(["a", "b"], True), True),
        (Read(["a"], False), Read(["a", "b"], True), False),
        (Read(["a", "x"], True), Read(["a", "b"], True), False),
        (Read(["a", "b"], True), Read(["a", "refused 400"], True), True),
        (Read(["a", "b"], True), Read(["a"], False), False),
    ],
)
def test_what_counts_as_agreement(ours: Read, theirs: Read, *, wanted: bool) -> None:
    assert agree(ours, theirs) is wanted
