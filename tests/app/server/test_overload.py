"""More work than the service can do, and clients that misbehave, on a real service whose lists take a while."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from app.engine.threads import QUICK_CELLS
from models.checkpoint.writer import Draft
from models.registry.directory import publish
from tests.support.waiting import wait_until

ITEMS, FACTORS = 40_000, 64
Start = Callable[..., AbstractContextManager[tuple[httpx.Client, object]]]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, make_draft: Callable[..., Draft]) -> Path:
    """A catalogue whose lists go to the engine's thread."""
    assert ITEMS * FACTORS > QUICK_CELLS
    directory = tmp_path_factory.mktemp("large")
    publish(directory, make_draft(0, users=2_000, items=ITEMS, factors=FACTORS))
    return directory


@pytest.fixture(scope="module")
def service(start: Start, large: Path) -> Iterator[httpx.Client]:
    """A client of a service that answers from it, and has the time for it beside other work."""
    with start(large, max_seconds="60") as (client, _):
        yield client


@contextmanager
def connection(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as opened:
        yield opened


def long_work(users: int = 1_500) -> dict[str, object]:
    """Some seconds of lists."""
    return {"users": [str(number) for number in range(1, users)], "n": 60}


def requests_with(client: httpx.Client, status: int) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("ratecast_requests_total") and f'status="{status}"' in line
    )


def test_health_answers_while_lists_are_computed(service: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as other:
        busy = other.submit(service.post, "/recommend", json=long_work())
        answered = 0
        while not busy.done():
            assert service.get("/health/live").status_code == 200
            answered += 1
        assert busy.result().status_code == 200
        assert answered > 3


def test_work_past_the_bound_is_refused_at_once_and_taken_again_later(start: Start, large: Path) -> None:
    with start(large, max_queued_lists="1") as (client, _), ThreadPoolExecutor(16) as others:
        barrier = threading.Barrier(16)

        def ask(user: int) -> httpx.Response:
            barrier.wait()
            return client.get(f"/users/{user}/top?n=60")

        answers = list(others.map(ask, range(1, 17)))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert {answer.json()["type"] for answer in refused} == {"urn:ratecast:problem:overloaded"}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert client.get("/users/1/top?n=60").status_code == 200


def test_an_answer_that_takes_too_long_is_a_504(start: Start, large: Path) -> None:
    with start(large, max_seconds="0.001") as (client, _):
        answer = client.post("/recommend", json=long_work())
        assert (answer.status_code, answer.json()["type"]) == (504, "urn:ratecast:problem:deadline-exceeded")
        assert client.post("/predict", json={"user": "1", "item": "2"}).status_code == 200


def test_work_whose_client_has_gone_is_dropped_and_others_are_answered(service: httpx.Client) -> None:
    gone_before = requests_with(service, 499)
    body = httpx.Request("POST", service.base_url, json=long_work()).content
    head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with connection(service) as leaving:
        leaving.sendall(head.encode() + b"\r\n\r\n" + body)
        assert service.get("/users/1/top?n=60").status_code == 200
    wait_until(lambda: requests_with(service, 499) == gone_before + 1)
    assert service.get("/users/2/top?n=60").status_code == 200
    assert requests_with(service, 500) == 0


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(service: httpx.Client) -> None:
    with connection(service) as leaving:
        leaving.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
    assert service.post("/predict", json={"user": "1", "item": "2"}).status_code == 200


def test_a_chunked_body_without_end_is_refused_when_it_is_too_large(start: Start, large: Path) -> None:
    with start(large, max_body_bytes="100000") as (client, _), connection(client) as endless:
        endless.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        received = b""
        endless.settimeout(0.05)
        for _ in range(2_000):
            try:
                endless.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
                received += endless.recv(4_096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if received:
                break
        assert received.startswith(b"HTTP/1.1 413")
        assert client.get("/health/live").status_code == 200
