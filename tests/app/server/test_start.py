"""How the service starts: what it imports and loads, once, and what its workers share of it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from models.registry.directory import prune, publish
from tests.support.drafts import random_draft
from tests.support.service import serving
from tests.support.soak import workers_of
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
IMPORTED = re.compile(r"^import time: .*\| +(\S+)$", re.MULTILINE)  # as Python logs it
NEVER = {"pandas.core", "numba", "torch._decomp", "torch._dynamo", "torch._inductor", "training"}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_start_imports_torch_once_and_nothing_that_only_training_needs(checkpoints: Path, workers: int) -> None:
    """Workers are forked from the process that has imported all, so none imports torch again."""
    with serving(checkpoints, "--workers", str(workers), within=["env", "PYTHONPROFILEIMPORTTIME=1"]) as service:
        wait_until(lambda: service.log.read_text().count("startup complete") == workers, service.process)
        imported = IMPORTED.findall(service.log.read_text())
    assert imported.count("torch") == imported.count("app.api.predict") == 1
    assert NEVER.isdisjoint(imported)


def test_workers_share_most_of_their_memory(checkpoints: Path) -> None:
    with serving(checkpoints, "--workers", "2", anew=True) as service:
        wait_until(lambda: service.log.read_text().count("startup complete") == 2, service.process)
        for worker in workers_of(psutil.Process(service.process.pid)):
            anonymous, private = (kilobytes(worker.pid, name) for name in ("Anonymous", "Private_Dirty"))
            assert private < anonymous / 2


def kilobytes(pid: int, name: str) -> int:
    found = re.search(rf"^{name}: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_version_of_the_start_can_be_pruned_once_another_is_served(tmp_path: Path, workers: int) -> None:
    """The process that loaded it for the workers does not hold it."""
    first = publish(tmp_path, random_draft(seed=0)).version
    with serving(tmp_path, "--workers", str(workers)) as service:
        assert prune(tmp_path, keep=1) == []
        second = publish(tmp_path, random_draft(seed=1)).version
        wait_until(lambda: served(service.log).count(second) == workers, service.process, log=service.log)
        wait_until(lambda: prune(tmp_path, keep=1) == [first], service.process, log=service.log)


def served(log: Path) -> list[str]:
    """The versions that workers have begun to serve."""
    return re.findall(r"Serving model (\S+) on", log.read_text())


def test_workers_follow_a_registry_behind_a_url_and_the_process_that_copies_it_is_replaced(tmp_path: Path) -> None:
    registry, copy = tmp_path / "registry", tmp_path / "copy"
    publish(registry, random_draft(seed=0))
    with serving(registry.as_uri(), "--workers", "2", checkpoint_cache=str(copy), anew=True) as service:
        wait_until(lambda: service.log.read_text().count("startup complete") == 2, service.process)
        parent = psutil.Process(service.process.pid)
        wait_until(lambda: len(workers_of(parent)) == 3, service.process, log=service.log)
        before = workers_of(parent)
        max(before, key=lambda process: process.pid).kill()  # the last to be forked is that which copies
        wait_until(lambda: len(workers_of(parent)) == 3 and workers_of(parent) != before, service.process)
        second = publish(registry, random_draft(seed=1)).version
        wait_until(lambda: served(service.log).count(second) == 2, service.process, log=service.log)
        assert httpx.get(f"{service.url}/health/ready").json()["model_version"] == second
        last = workers_of(parent)
    assert not any(process.is_running() for process in last)


def test_a_service_that_is_told_to_stop_while_workers_start_stops_with_them(checkpoints: Path) -> None:
    """A worker does not handle signals as its parent does, not even at first."""
    with serving(checkpoints, "--workers", "3") as service:
        parent = psutil.Process(service.process.pid)
        before = workers_of(parent)
        for worker in before:
            worker.kill()
        wait_until(lambda: bool({*workers_of(parent)} - {*before}), service.process, log=service.log)
        new = workers_of(parent)
        parent.send_signal(signal.SIGTERM)
        service.process.wait(60)
        assert not any(worker.is_running() for worker in new)
