"""Models swapped, workers killed and services stopped under load, on a real service. Every answer is checked."""

from __future__ import annotations

import asyncio
import re
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

from app.server.launcher import WORKER_SECONDS
from models.registry.directory import CURRENT, activate, current_version
from tests.support import soak
from tests.support.checked_load import Load, Truth, requests
from tests.support.drafts import publish_random
from tests.support.service import Service, is_ready, serving
from tests.support.waiting import until, wait_until

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
    service: Service
    client: httpx.AsyncClient

    @property
    def process(self) -> psutil.Process:
        """The parent of the workers."""
        return psutil.Process(self.service.process.pid)

    @property
    def workers(self) -> set[int]:
        return {worker.pid for worker in soak.workers_of(self.process)}

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait for a condition, or for the end of the service."""
        await until(condition, self.service.process, log=self.service.log)

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
    settings = {"shutdown_pause": "1"} | settings
    with serving(directory, "--workers", str(workers), **settings) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
            load = Load(service.port, asked, truth)
            await load.open()
            running = asyncio.ensure_future(load.run(PATIENCE, RATE))
            yield Scene(directory, versions, load, service, client)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await load.settle()
    assert load.record.answered > 0
    assert load.record.wrong == 0


def run(scenario: Coroutine[object, object, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, 2 * PATIENCE))


async def replaced(scene: Scene, before: set[int]) -> None:
    """Wait until as many other workers run, and answer."""

    async def done() -> bool:
        return len(scene.workers) == len(before) and not scene.workers & before

    await scene.until(done)


async def answers(scene: Scene, more: int) -> None:
    """Wait for so many more answers."""
    target = scene.load.record.answered + more

    async def reached() -> bool:
        return scene.load.record.answered >= target

    await scene.until(reached)


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_checkpoint_replaced_again_and_again_under_load_never_gives_a_wrong_or_mixed_answer(
    directory: Path, times: int
) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=1) as scene:
            for number in range(times):
                answer = await scene.client.post(f"/models/{scene.versions[(number + 1) % 2]}/activate")
                assert answer.status_code == 200
            await answers(scene, 100)
        assert scene.load.record.last_named.keys() == set(scene.versions)
        assert scene.load.record.failures == []

    run(scenario())


@pytest.mark.slow
def test_all_workers_follow_and_say_so(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            activate(directory, scene.versions[1])
            await scene.until(lambda: all_answer_from(scene, scene.versions[1]))
            await scene.until(lambda: all_report(scene, scene.versions[1]))
            assert await all_answer_from(scene, scene.versions[1])
        assert scene.load.record.failures == []

    run(scenario())


async def all_answer_from(scene: Scene, version: str) -> bool:
    """Whether the next answers, over every connection, name one version alone."""
    before = dict(scene.load.record.last_named)
    await answers(scene, 100)
    after = scene.load.record.last_named
    return {name for name, when in after.items() if before.get(name) != when} == {version}


async def all_report(scene: Scene, version: str) -> bool:
    """Whether the metrics of the workers together name one version alone."""
    series = (await scene.client.get("/metrics")).text
    named = set(re.findall(r'ratecast_model_created_timestamp_seconds{version="(.+)"}', series))
    return named == {version} == set(re.findall(r'version="([^"]+)"', series))


@pytest.mark.slow
def test_a_killed_worker_takes_only_what_it_had_under_way_and_is_replaced(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            events = soak.Events()
            soak.kill_one(events, scene.process)
            await scene.until(lambda: two_workers(scene, before))
            await answers(scene, 300)
        done = soak.Soak(scene.load.record, events, 0.0, RATE)
        assert done.unexplained == []

    run(scenario())


@pytest.mark.slow
def test_a_worker_that_ends_while_its_parent_waits_for_its_answer_is_replaced_at_once(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            victim = psutil.Process(min(before))
            victim.suspend()
            await asyncio.sleep(2)  # the parent asks twice a second
            killed = time.monotonic()
            victim.kill()
            await scene.until(lambda: two_workers(scene, before))
            assert time.monotonic() - killed < WORKER_SECONDS - 5

    run(scenario())


async def two_workers(scene: Scene, before: set[int]) -> bool:
    return len(scene.workers) == 2 and scene.workers != before


@pytest.mark.slow
def test_a_worker_told_to_stop_fails_no_request_and_is_replaced(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            psutil.Process(min(before)).terminate()
            await scene.until(lambda: two_workers(scene, before))
            await answers(scene, 300)
        assert scene.load.record.failures == []

    run(scenario())


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(directory: Path) -> None:
    with serving(directory, "--workers", "2", ends_with=-signal.SIGKILL) as service:
        parent = psutil.Process(service.process.pid)
        workers = soak.workers_of(parent)
        assert len(workers) == 2
        parent.kill()
        wait_until(lambda: not any(worker.is_running() for worker in workers), log=service.log)
    assert not is_ready(service.url)


@pytest.mark.slow
def test_a_rolling_restart_fails_no_request(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            before = scene.workers
            scene.process.send_signal(signal.SIGHUP)
            await replaced(scene, before)
            await answers(scene, 300)
        assert scene.load.record.failures == []

    run(scenario())


@pytest.mark.parametrize(
    ("workers", "sign"),
    [
        (1, signal.SIGTERM),
        pytest.param(1, signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_service_told_to_stop_says_so_first_and_fails_no_request(
    directory: Path, workers: int, sign: signal.Signals
) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers, shutdown_pause="1.5") as scene:
            scene.process.send_signal(sign)
            await scene.until(lambda: not_ready(scene))
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
    return scene.service.process.poll() is not None


@pytest.mark.slow
def test_a_worker_killed_while_a_damaged_version_is_current_comes_back_with_the_old_one(directory: Path) -> None:
    async def scenario() -> None:
        async with under_load(directory, workers=2) as scene:
            weights = directory / scene.versions[1] / "weights.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1])
            (directory / CURRENT).write_text(scene.versions[1])
            for _ in range(2):
                before = scene.workers
                soak.kill_one(soak.Events(), scene.process)
                await scene.until(lambda before=before: two_workers(scene, before))
            await scene.until(lambda: failing(scene))
            await answers(scene, 300)
            assert (await scene.ready())["model_version"] == scene.versions[0]
        assert set(scene.load.record.last_named) == {scene.versions[0]}

    run(scenario())


async def failing(scene: Scene) -> bool:
    return (await scene.ready()).get("failed_load") is not None


@pytest.mark.slow
def test_a_model_for_which_there_is_no_memory_is_not_served_until_there_is(directory: Path) -> None:
    first = current_version(directory)
    large = publish_random(directory, 400_000, ITEMS, 64, 1, seed=2).version
    activate(directory, first)

    async def scenario() -> None:
        with serving(directory) as service:
            async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as client:
                await no_memory_then_enough(service, client)

    async def no_memory_then_enough(service: Service, client: httpx.AsyncClient) -> None:
        async def state() -> dict[str, Any]:
            answer: dict[str, Any] = (await client.get("/health/ready")).json()
            return answer

        async def refused() -> bool:
            return (await state())["failed_load"] is not None

        async def served() -> bool:
            return (await state())["model_version"] == large

        process = psutil.Process(service.process.pid)
        unlimited = process.rlimit(psutil.RLIMIT_AS)
        process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + (64 << 20), resource.RLIM_INFINITY))
        activate(directory, large)
        await until(refused, service.process, log=service.log)
        found = await state()
        assert (found["model_version"], found["failed_load"]["version"]) == (first, large)
        assert (await client.post("/predict", json={"user": "1", "item": "1"})).status_code == 200
        process.rlimit(psutil.RLIMIT_AS, unlimited)
        await until(served, service.process, log=service.log)

    run(scenario())


@pytest.mark.slow
def test_a_short_soak_beside_a_hostile_client_finds_nothing_wrong() -> None:
    done = uvloop.run(soak.soak(seconds=12, swap_every=1.5, kill_every=5, workers=2, hostile=True))
    assert done.record.wrong == 0
    assert done.unexplained == []
    assert len(done.events.swaps) >= 3
    assert len(done.events.killed) >= 1
    assert len(done.record.last_named) >= 3
    assert done.events.changes > 0
    assert done.events.compared == done.events.rated > 0
    assert done.events.attacks.total() > 0
    assert not [kind for kind in done.events.attacks if kind.endswith(" 500")]
