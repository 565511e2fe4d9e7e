"""Four replicas behind the proxy under load: one is killed, one is stopped, versions roll. Every answer is checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from models.registry.directory import activate, current_version, versions
from tests.support.checked_load import Load
from tests.support.drafts import publish_random
from tests.support.ftp import serving
from tests.support.proxy import Proxy, proxy
from tests.support.replicas import ITEMS, USERS, Fleet, Outcome, fleet_of, loaded, open_load
from tests.support.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
]  # four services start, on a machine that has other tests to do
COUNT = 4
RATE = 150.0  # requests a second
ROLL_SECONDS = 10.0
PATIENCE = 120.0


@dataclass
class Scene:
    """Replicas that follow what is published in a directory, and the proxy before them."""

    directory: Path
    fleet: Fleet
    proxy: Proxy

    def load(self) -> Load:
        return open_load(self.proxy.port, self.directory)

    def another(self) -> str:
        """A version that is not current."""
        return next(name for name in versions(self.directory) if name != current_version(self.directory))


@pytest.fixture(scope="module", params=["directory", "URL"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("replicas")
    directory = folder / "checkpoints"
    for seed in range(2):
        publish_random(directory, USERS, ITEMS, 8, 10, seed=seed)
    with serving(directory) as server:
        checkpoints = str(directory) if request.param == "directory" else server.url
        with fleet_of(checkpoints, COUNT, folder) as fleet, proxy(fleet.addresses, fleet.port) as front:
            fleet.repair(front)
            yield Scene(directory, fleet, front)


@pytest.fixture(autouse=True)
def whole(scene: Scene) -> None:
    """All replicas run."""
    scene.fleet.repair(scene.proxy)


def run(scenario: Coroutine[object, object, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, PATIENCE))


async def answers(load: Load, more: int) -> None:
    """Wait for so many more answers."""
    target = load.record.answered + more

    async def reached() -> bool:
        return load.record.answered >= target

    await until(reached)


def test_a_version_rolls_through_all_replicas_within_seconds_and_fails_no_request(scene: Scene) -> None:
    async def scenario() -> None:
        load = scene.load()
        async with loaded(load, RATE):
            await answers(load, 100)
            for _ in range(2):
                version = scene.another()
                await asyncio.to_thread(activate, scene.directory, version)
                assert await scene.fleet.rolled(version) < ROLL_SECONDS
                began = time.perf_counter()
                await answers(load, 100)
        assert load.record.failures == [], scene.proxy.logged()
        assert load.record.wrong == 0
        assert load.record.last_named.keys() == set(versions(scene.directory))
        assert [name for name, when in load.record.last_named.items() if when > began] == [version]

    run(scenario())


def test_a_killed_replica_costs_no_request_but_those_in_flight_on_it(scene: Scene) -> None:
    async def scenario() -> None:
        load = scene.load()
        outcome = Outcome(load.record, RATE)
        async with loaded(load, RATE):
            await answers(load, 100)
            when, address = time.perf_counter(), scene.fleet.addresses[1]
            outcome.killed.append((when, await asyncio.to_thread(scene.fleet.kill, address, scene.proxy)))
            await asyncio.to_thread(scene.proxy.until_ready, COUNT - 1)
            await answers(load, 300)
        assert outcome.beyond == 0, scene.proxy.logged()
        assert load.record.wrong == 0

    run(scenario())


def test_a_stopped_replica_costs_no_request(scene: Scene) -> None:
    async def scenario() -> None:
        load = scene.load()
        async with loaded(load, RATE):
            await answers(load, 100)
            assert await asyncio.to_thread(scene.fleet.stop, scene.fleet.addresses[2]) == 0
            assert scene.proxy.ready() == COUNT - 1
            await answers(load, 300)
        assert load.record.failures == [], scene.proxy.logged()
        assert load.record.wrong == 0

    run(scenario())
