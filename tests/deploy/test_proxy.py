"""What the proxy of the compose file does with requests, before replicas that behave badly on purpose."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest

from app.settings import Settings
from tests.support.ports import held_port
from tests.support.proxy import CONFIGURATION, Proxy, proxy

ADDRESSES = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy"
LEAVING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Replica:
    """One that answers as it is told, and counts what it was asked.

    Attributes:
        answer: to every request but the one for health; empty: none, the connection is closed.
        health: to that.
        seen: requests by method and path. heads: of the same.
    """

    answer: bytes = OK
    health: bytes = OK
    seen: Counter[str] = field(default_factory=Counter)
    heads: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                what = " ".join(head.split()[:2])
                answer = self.health if what == "GET /health/ready" else self.answer
                if what != "GET /health/ready":
                    self.seen[what] += 1
                    self.heads.append(head)
                if not answer:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Scene:
    """The proxy, a client of it, the replicas behind it, and what listens for them."""

    proxy: Proxy
    client: httpx.AsyncClient
    replicas: list[Replica]
    servers: list[asyncio.Server]

    def seen(self, what: str) -> int:
        """How often any replica was asked this."""
        return sum(replica.seen[what] for replica in self.replicas)

    async def known(self, ready: int) -> None:
        await asyncio.to_thread(self.proxy.until_ready, ready)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    replicas = [Replica() for _ in ADDRESSES]
    with held_port(ADDRESSES) as port:
        servers = [
            await asyncio.start_server(replica, address, port)
            for replica, address in zip(replicas, ADDRESSES, strict=True)
        ]
        try:
            with proxy(ADDRESSES, port) as found:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{found.port}", timeout=30) as client:
                    made = Scene(found, client, replicas, servers)
                    await made.known(len(ADDRESSES))
                    yield made
        finally:
            for server in servers:
                await close(server)
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)


async def close(server: asyncio.Server) -> None:
    """Accept nothing more, and close.

    A connection that is accepted in the turn of the loop in which its server closes would stay open: asyncio attaches
    it in the next turn, and a closed server refuses that (`Server._attach` in Python 3.11).
    """
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening)
    await asyncio.sleep(0)
    server.close()


def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60), scene() as made:
            await scenario(made)

    asyncio.run(within())


REPEATED = [
    ("GET", "/users/1/top", {}),
    ("PUT", "/users/1/ratings/2", {}),
    ("DELETE", "/users/1/ratings/2", {}),
    ("POST", "/predict", {}),
    ("POST", "/recommend", {}),
    ("POST", "/ratings", {"Idempotency-Key": "a-key"}),
]
ONCE = [("POST", "/ratings", {}), ("POST", "/models/a/activate", {})]


@pytest.mark.parametrize(("method", "path", "headers"), REPEATED)
def test_what_may_be_done_twice_goes_to_another_replica_when_one_breaks_off(
    method: str, path: str, headers: dict[str, str]
) -> None:
    async def scenario(scene: Scene) -> None:
        broken = scene.replicas[0]
        broken.answer = b""
        for _ in range(9):
            answer = await scene.client.request(method, path, headers=headers, content=b"{}" * (method != "GET"))
            assert (answer.status_code, answer.text) == (200, "ok")
        asked = f"{method} {path}"
        assert broken.seen[asked] > 0
        assert scene.seen(asked) - broken.seen[asked] == 9

    run(scenario)


@pytest.mark.parametrize(("method", "path", "headers"), ONCE)
def test_what_may_not_is_sent_once_and_answered_as_unknown(method: str, path: str, headers: dict[str, str]) -> None:
    async def scenario(scene: Scene) -> None:
        for replica in scene.replicas:
            replica.answer = b""
        answer = await scene.client.request(method, path, headers=headers, content=b"{}")
        assert scene.seen(f"{method} {path}") == 1
        assert answer.status_code == 502
        assert answer.headers["content-type"] == "application/problem+json"
        assert "whether it was carried out is not known" in answer.json()["detail"]

    run(scenario)


@pytest.mark.parametrize(("method", "path", "headers"), [*REPEATED, *ONCE])
def test_an_overloaded_replica_is_not_asked_again_nor_are_the_others(
    method: str, path: str, headers: dict[str, str]
) -> None:
    async def scenario(scene: Scene) -> None:
        for replica in scene.replicas:
            replica.answer = BUSY
        answer = await scene.client.request(method, path, headers=headers, content=b"{}" * (method != "GET"))
        assert (answer.status_code, answer.headers["retry-after"], answer.text) == (503, "1", "busy")
        assert scene.seen(f"{method} {path}") == 1

    run(scenario)


def test_a_replica_that_is_not_ready_is_sent_nothing_until_it_is() -> None:
    async def scenario(scene: Scene) -> None:
        leaving = scene.replicas[0]
        leaving.health = LEAVING
        await scene.known(2)
        for _ in range(12):
            assert (await scene.client.get("/")).status_code == 200
        assert leaving.seen == {}
        leaving.health = OK
        await scene.known(3)
        for _ in range(12):
            await asyncio.gather(*(scene.client.get("/") for _ in range(6)))
        assert leaving.seen["GET /"] > 0

    run(scenario)


def test_where_no_replica_says_that_it_is_ready_whichever_there_is_answers() -> None:
    async def scenario(scene: Scene) -> None:
        for replica in scene.replicas:
            replica.health = LEAVING
        await scene.known(0)
        assert (await scene.client.get("/users/1/top")).status_code == 200

    run(scenario)


def test_without_any_replica_the_answer_is_a_problem_that_says_when_to_ask_again() -> None:
    async def scenario(scene: Scene) -> None:
        for server in scene.servers:
            await close(server)
        answer = await scene.client.get("/users/1/top")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "no replica can be reached"

    run(scenario)


def test_replicas_come_and_go_as_their_name_says() -> None:
    async def scenario(scene: Scene) -> None:
        scene.proxy.names.addresses = ADDRESSES[:1]
        await scene.known(1)
        scene.proxy.names.addresses = ADDRESSES
        await scene.known(3)

    run(scenario)


def test_replicas_learn_the_id_and_the_address_of_a_request() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.client.get("/", headers={"X-Request-Id": "chosen"})
        await scene.client.get("/")
        heads = [head.lower() for replica in scene.replicas for head in replica.heads]
        ids = [re.findall(r"^x-request-id: (.+)\r$", head, re.MULTILINE) for head in heads]
        assert ["chosen"] in ids
        assert all(len(found) == 1 and re.fullmatch(r"[a-z0-9-]{1,64}", found[0]) for found in ids)
        assert all("x-forwarded-for: 127.0.0.1\r\n" in head for head in heads)

    run(scenario)


def test_a_body_larger_than_what_can_be_repeated_arrives() -> None:
    async def scenario(scene: Scene) -> None:
        answer = await scene.client.post("/predict", content=b"x" * 3_000_000)
        assert answer.status_code == 200

    run(scenario)


def test_times_are_in_keeping_with_those_of_the_service() -> None:
    text = (CONFIGURATION / "haproxy.cfg").read_text("utf-8")
    times = {name: int(seconds) for name, seconds in re.findall(r"^    timeout ([\w-]+) (\d+)s$", text, re.MULTILINE)}
    settings = Settings()
    assert times["http-request"] == settings.max_seconds
    assert times["server"] > settings.max_seconds
    assert times["client"] > settings.max_seconds
    assert times["http-keep-alive"] == settings.idle_seconds
    ((inter, fast, fall),) = re.findall(r"check inter (\d+)ms fastinter (\d+)ms fall (\d+)", text)
    assert int(inter) + int(fast) * (int(fall) - 1) < 1e3 * settings.shutdown_pause


@pytest.mark.parametrize("status", [502, 503, 504])
def test_problems_of_the_proxy_have_the_form_of_those_of_the_service(status: int) -> None:
    problem = json.loads((CONFIGURATION / f"errors/{status}.json").read_text("utf-8"))
    assert problem["status"] == status
    assert problem.keys() == {"type", "title", "status", "detail"}
