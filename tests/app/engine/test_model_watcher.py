"""Which model is served, whatever happens in the checkpoint directory. Real files, real threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from app.engine import model_watcher
from app.engine.engine import Bounds, Engine
from app.engine.errors import ActivationError, UnknownVersionError
from app.engine.events import Event, Loaded, LoadFailed
from app.engine.serving_model import ServingModel
from app.engine.types import Pair
from models.checkpoint.writer import Draft
from models.devices import DevicePlacement
from models.errors import CheckpointCorruptError, CheckpointNotFoundError
from models.registry.directory import CURRENT, activate, current_version, publish
from tests.support.checkpoints import replace_tensors

MakeDraft = Callable[..., Draft]
PATIENCE = 60


@asynccontextmanager
async def following(
    directory: Path, events: list[Event] | None = None, pinned: str | None = None, remembered: Path | None = None
) -> AsyncIterator[Engine]:
    events = [] if events is None else events
    engine = Engine(directory, DevicePlacement(torch.device("cpu")), 1, Bounds(), events.append, pinned, remembered)
    try:
        await engine.versions.start()
        task = asyncio.create_task(engine.versions.follow())
        yield engine
        assert not task.done()
        task.cancel()
    finally:
        engine.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 2 * PATIENCE))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_watcher, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(model_watcher, "RETRY_SECONDS", 0.05)


@pytest.fixture
def versions(tmp_path: Path, make_draft: MakeDraft) -> list[str]:
    """Two published versions; the first is the current one."""
    names = [publish(tmp_path, make_draft(seed)).version for seed in (1, 2)]
    activate(tmp_path, names[0])
    return names


def damage(version: Path) -> None:
    weights = version / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def test_what_becomes_current_is_served(tmp_path: Path, versions: list[str]) -> None:
    async def scenario() -> None:
        events: list[Event] = []
        async with following(tmp_path, events) as engine:
            assert engine.versions.manifest.version == versions[0]
            for version in (versions[1], versions[0]):
                activate(tmp_path, version)
                await until(lambda version=version: engine.versions.manifest.version == version)
                assert (await engine.predictions.pair(Pair("1", "2"))).version == version
            assert [event.version for event in events if isinstance(event, Loaded)] == [*versions, versions[0]]

    run(scenario())


def test_a_version_that_is_damaged_before_it_is_served_changes_nothing(
    tmp_path: Path, versions: list[str], make_draft: MakeDraft
) -> None:
    damage(tmp_path / versions[1])

    async def scenario() -> None:
        events: list[Event] = []
        async with following(tmp_path, events) as engine:
            before = await engine.predictions.pair(Pair("1", "2"))
            (tmp_path / CURRENT).write_text(versions[1])
            await until(lambda: engine.versions.failure is not None)
            await asyncio.sleep(0.2)  # several more attempts
            failure = engine.versions.failure
            assert failure is not None
            assert failure.version == versions[1]
            assert failure.reason.startswith(f"{versions[1]}/weights.safetensors")
            assert str(tmp_path) not in failure.reason
            assert [event for event in events if isinstance(event, LoadFailed)] == [
                LoadFailed(versions[1], "CheckpointCorruptError")
            ]
            assert (await engine.predictions.pair(Pair("1", "2"))) == before
            third = publish(tmp_path, make_draft(3)).version
            await until(lambda: engine.versions.manifest.version == third)
            assert engine.versions.failure is None

    run(scenario())


def test_a_model_that_predicts_something_else_than_at_its_publication_is_not_served(
    tmp_path: Path, versions: list[str]
) -> None:
    replace_tensors(tmp_path / versions[1], "weights.safetensors", {"mean": torch.tensor(1.25)})

    async def scenario() -> None:
        events: list[Event] = []
        async with following(tmp_path, events) as engine:
            (tmp_path / CURRENT).write_text(versions[1])
            await until(lambda: engine.versions.failure is not None)
            assert LoadFailed(versions[1], "GoldenPairsError") in events
            assert engine.versions.manifest.version == versions[0]

    run(scenario())


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../elsewhere\n", b"nowhere\n", b"x" * 10_000, None])
def test_a_current_that_names_nothing_changes_nothing_until_it_does_again(
    tmp_path: Path, versions: list[str], content: bytes | None
) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as engine:
            if content is None:
                (tmp_path / CURRENT).unlink()
            else:
                (tmp_path / CURRENT).write_bytes(content)
            await until(lambda: engine.versions.failure is not None)
            assert engine.versions.manifest.version == versions[0]
            (tmp_path / CURRENT).write_text(versions[0])
            await until(lambda: engine.versions.failure is None)

    run(scenario())


def test_a_directory_that_vanishes_and_comes_back_changes_nothing(tmp_path: Path, versions: list[str]) -> None:
    elsewhere = tmp_path.with_name("elsewhere")

    async def scenario() -> None:
        async with following(tmp_path) as engine:
            tmp_path.rename(elsewhere)
            await until(lambda: engine.versions.failure is not None)
            assert (await engine.predictions.pair(Pair("1", "2"))).version == versions[0]
            elsewhere.rename(tmp_path)
            await until(lambda: engine.versions.failure is None)

    run(scenario())


def test_answers_come_while_a_load_takes_its_time(tmp_path: Path, versions: list[str]) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as engine:
            loader, going_on = engine.versions._executor, threading.Event()
            loader.submit(going_on.wait, PATIENCE)
            activate(tmp_path, versions[1])
            for _ in range(100):
                assert (await engine.predictions.pair(Pair("1", "2"))).version == versions[0]
                await asyncio.sleep(0)
            going_on.set()
            await until(lambda: engine.versions.manifest.version == versions[1])

    run(scenario())


def test_a_worker_that_starts_while_a_damaged_version_is_current_serves_what_the_others_do(
    tmp_path: Path, versions: list[str]
) -> None:
    remembered = tmp_path / "served"

    async def scenario() -> None:
        async with following(tmp_path, remembered=remembered):
            assert remembered.read_text() == versions[0]
        damage(tmp_path / versions[1])
        (tmp_path / CURRENT).write_text(versions[1])
        async with following(tmp_path, remembered=remembered) as engine:
            assert engine.versions.manifest.version == versions[0]
            assert engine.versions.failure is not None
            assert engine.versions.failure.version == versions[1]

    run(scenario())


def test_a_worker_that_starts_where_the_current_version_does_not_fit_serves_what_the_others_do(
    tmp_path: Path, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch says it when a device has no room."""
    remembered, prepare = tmp_path / "served", model_watcher.prepare

    def without_room(directory: Path, version: str, place: DevicePlacement, changes: None) -> ServingModel:
        if version == versions[1]:
            raise RuntimeError("out of memory")
        return prepare(directory, version, place, changes)

    async def scenario() -> None:
        async with following(tmp_path, remembered=remembered):
            pass
        activate(tmp_path, versions[1])
        monkeypatch.setattr(model_watcher, "prepare", without_room)
        async with following(tmp_path, remembered=remembered) as engine:
            assert engine.versions.manifest.version == versions[0]
            failure = engine.versions.failure
            assert failure is not None
            assert (failure.version, failure.reason) == (versions[1], "RuntimeError: out of memory")

    run(scenario())


def test_the_first_start_with_a_damaged_version_fails(tmp_path: Path, versions: list[str]) -> None:
    damage(tmp_path / versions[0])

    async def scenario() -> None:
        async with following(tmp_path, remembered=tmp_path / "served"):
            pytest.fail("it started")

    with pytest.raises(CheckpointCorruptError, match=r"weights\.safetensors"):
        run(scenario())


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path):
            pytest.fail("it started")

    with pytest.raises(CheckpointNotFoundError, match=str(tmp_path)):
        run(scenario())


def test_a_folder_that_cannot_be_written_does_not_keep_a_model_from_being_served(
    tmp_path: Path, versions: list[str]
) -> None:
    """Workers share which version they serve through a file."""

    async def scenario() -> None:
        events: list[Event] = []
        async with following(tmp_path, events, remembered=Path("/dev/null/served")) as engine:
            activate(tmp_path, versions[1])
            await until(lambda: engine.versions.manifest.version == versions[1])
            assert engine.versions.failure is None
            assert events[-1] == Loaded(versions[1], engine.versions.manifest.created_at, engine.versions.manifest.data)

    run(scenario())


def test_a_pinned_version_is_served_whatever_is_current(tmp_path: Path, versions: list[str]) -> None:
    async def scenario() -> None:
        async with following(tmp_path, pinned=versions[1]) as engine:
            await asyncio.sleep(0.1)
            assert engine.versions.manifest.version == versions[1]
            with pytest.raises(ActivationError, match=versions[1]):
                await engine.versions.activate(versions[0])

    run(scenario())


def test_activating_makes_a_version_current_and_serves_it(tmp_path: Path, versions: list[str]) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as engine:
            await engine.versions.activate(versions[1])
            assert engine.versions.manifest.version == current_version(tmp_path) == versions[1]
            await engine.versions.activate(versions[0])
            assert engine.versions.manifest.version == current_version(tmp_path) == versions[0]

    run(scenario())


def test_what_cannot_be_activated_changes_nothing(tmp_path: Path, versions: list[str]) -> None:
    damage(tmp_path / versions[1])

    async def scenario() -> None:
        async with following(tmp_path) as engine:
            with pytest.raises(UnknownVersionError, match="nowhere"):
                await engine.versions.activate("nowhere")
            with pytest.raises(ActivationError, match=r"weights\.safetensors"):
                await engine.versions.activate(versions[1])
            assert engine.versions.manifest.version == current_version(tmp_path) == versions[0]

    run(scenario())


def test_the_published_versions_are_listed_but_for_those_that_cannot_be_read(
    tmp_path: Path, versions: list[str], make_draft: MakeDraft
) -> None:
    broken = publish(tmp_path, make_draft(3)).version
    (tmp_path / broken / "manifest.json").write_text("{")
    activate(tmp_path, versions[0])

    async def scenario() -> None:
        async with following(tmp_path) as engine:
            assert [manifest.version for manifest in await engine.versions.published()] == versions

    run(scenario())
