"""Both clients, asked in the same way, and a service of their own that may be changed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from inspect import isasyncgen
from pathlib import Path
from typing import Any

import pytest
from ratecast_client import AsyncClient, Client, Clock

from tests.support.service import Start


class Blocking:
    """An AsyncClient whose methods wait for their answer, so that one test does for both clients."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **named: self._result(method(*args, **named))

    def __repr__(self) -> str:
        return repr(self._client)

    def _result(self, pending: Any) -> Any:
        return self._each(pending) if isasyncgen(pending) else self._runner.run(pending)

    def _each(self, pending: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._runner.run(anext(pending))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(pending.aclose())

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@dataclass
class HandClock:
    """A clock that goes on only while somebody sleeps, and chance that always draws the middle."""

    seconds: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 6))
        self.seconds += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def clock(self) -> Clock:
        return Clock(
            monotonic=lambda: self.seconds,
            wall_time=lambda: 1_800_000_000.0 + self.seconds,
            random=lambda: 0.5,
            sleep=self.sleep,
            sleep_async=self.sleep_async,
        )


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


Connect = Callable[..., Any]


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients, blocking ones or for asyncio, and closes them."""
    with ExitStack() as stack:

        def made(*args: Any, **options: Any) -> Any:
            client = request.param(*args, **options)
            stack.callback(client.close)
            return client

        yield made


@pytest.fixture(scope="session")
def service(start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a service with default limits and a ratings store, on a copy of `checkpoints`."""
    own = tmp_path_factory.mktemp("service") / "checkpoints"
    shutil.copytree(checkpoints, own)
    with start(own) as (http, _):
        yield str(http.base_url)
