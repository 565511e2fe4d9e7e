"""Small or allowed bodies that could cost much: each is refused or answered, memory stays, and others are answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.service import Start

JSON = {"content-type": "application/json"}
MOST = 16 << 20  # the default bound of a body
MEMORY = 300 << 20
PAUSE = 1.0  # seconds that others may wait on a machine that has other work too


def many(text: bytes, size: int = MOST - 64) -> bytes:
    return text * (size // len(text))


IDS = b",".join(b'"%d"' % number for number in range(15_000))
BODIES: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "objects": ("/predict", lambda: b'{"users": [' + many(b"{},") + b"{}]}", 422),
    "lists": ("/recommend", lambda: b'{"users": [' + many(b"[],") + b"[]]}", 422),
    "objects-to-fastapi": ("/items", lambda: b'{"items": [' + many(b"{},") + b"{}]}", 422),
    "numbers": ("/ratings", lambda: b'{"users": [' + many(b"1,") + b"1]}", 422),
    "members": ("/predict", lambda: b"{" + many(b'"a":1,') + b'"a":1}', 422),
    "distinct-members": (
        "/recommend",
        lambda: b"{" + b",".join(b'"%x":1' % number for number in range(1_300_000)) + b"}",
        422,
    ),
    "members-of-a-rating": (
        "/predict",
        lambda: b'{"item":"1","ratings":[{' + b",".join(b'"%x":1' % number for number in range(400_000)) + b"}]}",
        422,
    ),
    "few-members": ("/recommend", lambda: b"{" + b",".join(b'"%x":1' % number for number in range(12_000)) + b"}", 422),
    "genre": ("/recommend", lambda: b'{"users": ["1"], "genre": ["' + many(b"x") + b'"]}', 422),
    "exclude": ("/recommend", lambda: b'{"users": [%b], "exclude": [%b], "n": 1}' % (IDS, IDS), 200),
    "strings": ("/predict", lambda: b'{"users": ["' + many(b"\\\\") + b'"], "items": ["1"]}', 422),
}


@pytest.fixture(scope="module")
def running(
    start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    store = tmp_path_factory.mktemp("store") / "ratings.sqlite"
    with start(checkpoints, store=f"sqlite:///{store}", max_seconds="100") as (client, process):
        yield client, psutil.Process(process.pid)


@pytest.mark.parametrize("name", BODIES)
def test_an_awkward_body_takes_neither_memory_nor_the_time_of_others(
    running: tuple[httpx.Client, psutil.Process], name: str
) -> None:
    client, process = running
    path, make, status = BODIES[name]
    body, before, peak, slowest, done = make(), process.memory_info().rss, 0, 0.0, threading.Event()

    def ask() -> None:
        nonlocal answer
        answer = client.post(path, content=body, headers=JSON, timeout=100)
        done.set()

    answer: httpx.Response | None = None
    asking = threading.Thread(target=ask)
    asking.start()
    with httpx.Client(base_url=client.base_url) as other:
        while not done.wait(0.002):
            began = time.monotonic()
            assert other.get("/health/live", timeout=100).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            peak = max(peak, process.memory_info().rss)
    asking.join()
    assert answer is not None
    assert answer.status_code == status, answer.text[:200]
    assert len(answer.content) < 10_000_000
    assert peak - before < MEMORY
    assert slowest < PAUSE
