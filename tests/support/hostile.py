"""A client that means harm: `python -m tests.support.hostile URL`. At SIGTERM it prints what it was answered.

It changes nothing, if the service is right: what it sends is refused, or only asks. It is nice, so that it takes only
the time that the service leaves over.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx

from tests.support.budget import AWKWARD, cases
from tests.support.framing import Streams

PATIENCE = 15.0  # seconds to wait for an answer
REST = 0.3  # seconds between two attacks of a kind
ENDLESS = 1 << 20  # bytes of what has no end; the service closes long before
SLOW_SECONDS, SLOW_TOGETHER = 0.5, 20  # between two bytes, and connections
LARGE = b"x" * (1 << 20)

Attack = Callable[["Client"], Awaitable[str]]


class Client:
    """Attacks a service. What came of each attack is counted in `outcomes`, by kind and status or `closed`."""

    def __init__(self, url: httpx.URL) -> None:
        self.url = url
        self.random = random.Random(0)
        self.streams = Streams(seed=1)
        self.outcomes: Counter[str] = Counter()
        document = httpx.get(url.join("/openapi.json"), timeout=PATIENCE).json()
        version = httpx.get(url.join("/health/ready"), timeout=PATIENCE).json()["model_version"]
        self.harmless = [
            case for case in cases(document, version) if case.name in AWKWARD or case.method in ("GET", "HEAD")
        ]
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE)

    async def attack(self, kind: Attack) -> None:
        """Attack in one way, again and again."""
        while True:
            try:
                outcome = await kind(self)
            except (OSError, httpx.TransportError, asyncio.IncompleteReadError):  # a worker was killed, too
                outcome = "closed"
            except TimeoutError:
                outcome = "silent"
            self.outcomes[f"{kind.__name__}: {outcome}"] += 1
            await asyncio.sleep(REST)

    async def send(self, parts: list[bytes], pause: float = 0.0) -> str:
        """Send the parts on a connection of their own; the status of the last answer, or `closed`."""
        reader, writer = await asyncio.open_connection(self.url.host, self.url.port)
        answer = asyncio.create_task(reader.read(1 << 16))
        try:
            for part in parts:
                if answer.done():
                    break
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            text = await asyncio.wait_for(answer, PATIENCE)
        finally:
            answer.cancel()
            writer.close()
        return text.rpartition(b"HTTP/1.1 ")[2][:3].decode() or "closed"


async def awkward(client: Client) -> str:
    """The largest and the most awkward requests of all routes."""
    case = client.random.choice(client.harmless)
    body = None if case.body is None else await asyncio.to_thread(case.body)
    headers = case.headers if body is None else {"Content-Type": case.media} | case.headers
    return str((await client.http.request(case.method, case.target, content=body, headers=headers)).status_code)


async def framing(client: Client) -> str:
    """Requests whose end can be read in two ways."""
    return await client.send([client.streams.next()])


async def endless(client: Client) -> str:
    """A head, trailers, or the framing of chunks, without end."""
    chunked = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    begin, part = client.random.choice(
        [
            (b"GET /health/live HTTP/1.1\r\n", b"a: b\r\n"),
            (chunked + b"0\r\n", b"a: b\r\n"),
            (chunked, b"1;%b\r\na\r\n" % (b"e" * 60)),
            (b"GET /", b"x" * 60),
        ]
    )
    return await client.send([begin, *[part * (4096 // len(part))] * (ENDLESS // 4096)])


async def slow(client: Client) -> str:
    """Many connections that send a byte now and then."""
    head = [bytes([byte]) for byte in b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 26\r\n\r\n"]
    ends = await asyncio.gather(
        *(client.send(head, SLOW_SECONDS) for _ in range(SLOW_TOGETHER)), return_exceptions=True
    )
    return str(next((end for end in ends if isinstance(end, str)), "closed"))


async def leaving(client: Client) -> str:
    """Half of a large body, and then nobody; or many requests whose answers nobody reads."""
    half = b"POST /ratings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 16000000\r\n\r\n"
    lists = b"GET /users/1/top?n=1000 HTTP/1.1\r\nhost: x\r\n\r\n" * 500
    _, writer = await asyncio.open_connection(client.url.host, client.url.port)
    writer.write(client.random.choice([half + LARGE * 7, lists]))
    with suppress(TimeoutError):
        await asyncio.wait_for(writer.drain(), 1)
    writer.transport.abort()
    return "left"


async def main(url: str) -> None:
    os.nice(10)
    client = Client(httpx.URL(url))
    print("begun", flush=True)  # noqa: T201 - for the process that started this one
    attacks = [asyncio.create_task(client.attack(kind)) for kind in (awkward, framing, endless, slow, leaving)]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    stopped = asyncio.create_task(ended.wait())
    done, _ = await asyncio.wait([*attacks, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    print(json.dumps(client.outcomes), flush=True)  # noqa: T201
    os._exit(0)  # what is under way needs no end


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
