"""Models swapped, workers killed and services stopped under load, on a real service. Every answer is checked."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvloop

from benchmarks import soak
from benchmarks.checked_load import Load, Truth, requests
from benchmarks.random_model import publish_random
from models.registry.directory import CURRENT, current_version
from models.registry.lifecycle import activate

pytestmark = pytest.mark.timeout(300)  # each starts a service or two, on a machine that has other tests to do
USERS, ITEMS = 200, 300
RATE = 300.0  # requests a second
PATIENCE = 60.0


@dataclass
class Scene:
    """A service under load."""

    directory: Path
    versions: list[str]
    load: Load
    process: psutil.Process
    client: httpx.AsyncClient

    @property
    def workers(self) -> set[int]:
        return {worker.pid for worker in soak.workers_of(self.process)}

    async def ready(self) -> dict[str, object]:
        answer: dict[str, object] = (await self.client.get("/health/ready")).json()
        return answer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two versions; the first is the current one."""
    first = publish_random(tmp_path, USERS, ITEMS, 8, 10, seed=0).version
    publish_random(tmp_path, USERS, ITEMS, 8, 10, seed=1)
    activate(tmp_path, first)
    return tmp_path


@asynccontextmanager
async def under_load(directory: Path, workers: int, **settings: str) -> AsyncIterator[Scene]:
    first = current_version(directory)
    versions = [first, *(path.parent.name for path in directory.glob("*/manifest.json") if path.parent.name != first)]
    asked = requests(USERS, ITEMS)
    truth = Truth(directory, versions, asked)
    async with (
        soak.service(directory, workers, **settings) as (port, process),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
    ):
        load = Load(port, asked, truth)
        await load.open()
        running = asyncio.ensure_future(load.run(PATIENCE, RATE))
        yield Scene(directory, versions, load, process, client)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await load.settle()
    assert load.record.answered > 0
    assert load.record.wrong == 0


def run(scenario: Coroutine[object, object, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, 2 * PATIENCE))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def replaced(scene: Scene, before: set[int]) -> None:
    """Wait until as many other workers run, and answer."""

    async def done() -> bool:
        return len(scene.workers) == len(before) and not scene.workers & before

    await until(done)


async def answers(scene: Scene, more: int) -> None:
    """Wait for so many more answers."""
    target = scene.load.record.answered + more

    async def reached() -> bool:
        return scene.load.record.answered >= target

    await until(reached)


def test_a_checkpoint_replaced_a_hundred_times_under_load_never_gives_a_wrong_or_mixed_answer(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=1) as scene:
            for number in range(100):
                answer = await scene.client.post(f"/models/{scene.versions[(number + 1) % 2]}/activate")
                assert answer.status_code == 200
            await answers(scene, 100)
        assert scene.load.record.last_named.keys() == set(scene.versions)
        assert scene.load.record.failures == []

    run(scenario())


def test_all_workers_follow_and_say_so(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            activate(directory, scene.versions[1])
            since = time.perf_counter()
            await until(lambda: named(scene, scene.versions[1]))
            await asyncio.sleep(2)
            await answers(scene, 200)
            assert scene.load.record.last_named.get(scene.versions[0], since) < time.perf_counter() - 0.3
            series = (await scene.client.get("/metrics")).text
            assert f'ratecast_model_created_timestamp_seconds{{version="{scene.versions[1]}"}}' in series
            assert f'version="{scene.versions[0]}"' not in series
        assert scene.load.record.failures == []

    run(scenario())


async def named(scene: Scene, version: str) -> bool:
    return version in scene.load.record.last_named


def test_a_killed_worker_takes_only_what_it_had_under_way_and_is_replaced(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            events = soak.Events()
            soak.kill_one(events, scene.process)
            await until(lambda: two_workers(scene, before))
            await answers(scene, 300)
        done = soak.Soak(scene.load.record, events, 0.0, RATE)
        assert done.unexplained == []

    run(scenario())


async def two_workers(scene: Scene, before: set[int]) -> bool:
    return len(scene.workers) == 2 and scene.workers != before


def test_a_worker_told_to_stop_fails_no_request_and_is_replaced(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            psutil.Process(min(before)).terminate()
            await until(lambda: two_workers(scene, before))
            await answers(scene, 300)
        assert scene.load.record.failures == []

    run(scenario())


def test_a_rolling_restart_fails_no_request(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            scene.process.send_signal(signal.SIGHUP)
            await replaced(scene, before)
            await answers(scene, 300)
        assert scene.load.record.failures == []

    run(scenario())


@pytest.mark.parametrize(("workers", "sign"), [(1, signal.SIGTERM), (1, signal.SIGHUP), (2, signal.SIGTERM)])
def test_a_service_told_to_stop_says_so_first_and_fails_no_request(
    directory: Path, workers: int, sign: signal.Signals
) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers, shutdown_pause="1.5") as scene:
            scene.process.send_signal(sign)
            await until(lambda: not_ready(scene))
            answer = await scene.client.post("/predict", json={"user": "1", "item": "1"})
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            await scene.load.settle()
            await until(lambda: gone(scene))
        assert scene.load.record.failures == []

    run(scenario())


async def not_ready(scene: Scene) -> bool:
    answer = await scene.client.get("/health/ready")
    return answer.status_code == 503 and answer.json()["type"] == "urn:ratecast:problem:stopping"


async def gone(scene: Scene) -> bool:
    return not scene.process.is_running() or scene.process.status() == psutil.STATUS_ZOMBIE


def test_a_worker_killed_while_a_damaged_version_is_current_comes_back_with_the_old_one(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            weights = directory / scene.versions[1] / "weights.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1])
            (directory / CURRENT).write_text(scene.versions[1])
            for _ in range(2):
                before = scene.workers
                soak.kill_one(soak.Events(), scene.process)
                await until(lambda before=before: two_workers(scene, before))
            await until(lambda: failing(scene))
            await answers(scene, 300)
            assert (await scene.ready())["model_version"] == scene.versions[0]
        assert set(scene.load.record.last_named) == {scene.versions[0]}

    run(scenario())


async def failing(scene: Scene) -> bool:
    return (await scene.ready()).get("failed_load") is not None


def test_a_model_for_which_there_is_no_memory_is_not_served_until_there_is(directory: Path) -> None:
    first = current_version(directory)
    large = publish_random(directory, 400_000, ITEMS, 64, 1, seed=2).version
    activate(directory, first)

    async def scenario() -> None:
        async with (
            soak.service(directory, 1) as (port, process),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
        ):

            async def state() -> dict[str, Any]:
                answer: dict[str, Any] = (await client.get("/health/ready")).json()
                return answer

            async def refused() -> bool:
                return (await state())["failed_load"] is not None

            async def served() -> bool:
                return (await state())["model_version"] == large

            unlimited = process.rlimit(psutil.RLIMIT_AS)
            process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + (64 << 20), resource.RLIM_INFINITY))
            activate(directory, large)
            await until(refused)
            found = await state()
            assert (found["model_version"], found["failed_load"]["version"]) == (first, large)
            assert (await client.post("/predict", json={"user": "1", "item": "1"})).status_code == 200
            process.rlimit(psutil.RLIMIT_AS, unlimited)
            await until(served)

    run(scenario())


def test_a_short_soak_finds_nothing_wrong() -> None:
    done = uvloop.run(soak.soak(seconds=12, swap_every=1.5, kill_every=5, workers=2))
    assert done.record.wrong == 0
    assert done.unexplained == []
    assert len(done.events.swaps) >= 6
    assert len(done.events.killed) == 2
    assert len(done.record.last_named) >= 5
