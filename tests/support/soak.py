"""The service under load while models are swapped and workers killed. Every answer is checked.

Meanwhile a split is on, items are hidden and shown, and new users rate, whose live error must count each rating once.
A hostile client may attack beside the honest ones.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from models.registry.directory import activate, set_split
from models.registry.split import Split
from tests.support import ROOT
from tests.support.checked_load import Load, Record, Truth, requests
from tests.support.drafts import publish_random
from tests.support.followed import Change
from tests.support.service import serving

USERS, ITEMS, FACTORS, SEEN = 943, 1682, 48, 100
SPLIT_SEED = 99_999
SHARE = 0.3  # of the users, whom another version answers
CHANGED = 30  # items that are hidden and shown
CHANGE_SECONDS, RATING_SECONDS = 0.3, 0.1  # between two of them
CAPACITY_SECONDS = 2.0  # of each of the runs that measure it


@dataclass
class Events:
    """What was done to the service: swaps with their versions, killed workers with their clients' ports, its memory."""

    swaps: list[tuple[float, str]] = field(default_factory=list)
    killed: list[tuple[float, frozenset[int]]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    hidden: dict[str, list[Change[bool]]] = field(
        default_factory=lambda: {str(row): [Change(state=False)] for row in range(CHANGED)}
    )
    ended: bool = False  # no more ratings come then
    rated: int = 0
    compared: int = -1  # ratings of which the live error is known at the end
    largest: int = 0  # resident bytes of a process at most
    attacks: Counter[str] = field(default_factory=Counter)  # of the hostile client, by kind and outcome

    @property
    def changes(self) -> int:
        """How often an item was hidden or shown."""
        return sum(len(of_item) - 1 for of_item in self.hidden.values())


@dataclass(frozen=True)
class Soak:
    """How a soak went. Rates are of requests a second."""

    record: Record
    events: Events
    capacity: float
    rate: float

    @property
    def unexplained(self) -> list[tuple[float, int, str]]:
        """Failures on connections that were not those of a worker killed at that time."""
        return [
            failure
            for failure in self.record.failures
            if not any(when <= failure[0] <= when + 5 and failure[1] in ports for when, ports in self.events.killed)
        ]


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """Its worker processes that run."""
    return [child for child in parent.children() if _runs(child)]


def _runs(child: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(child.status() != psutil.STATUS_ZOMBIE)
    return False


async def swap(events: Events, directory: Path, versions: Sequence[str], every: float) -> None:
    for version in versions[1:]:
        await asyncio.sleep(every)
        events.swaps.append((time.perf_counter(), version))
        await asyncio.to_thread(activate, directory, version)


async def kill(events: Events, parent: psutil.Process, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        kill_one(events, parent)


def kill_one(events: Events, parent: psutil.Process) -> None:
    """Kill the worker that has run longest, and note whose connections it had."""
    victim = min(workers_of(parent), key=lambda worker: worker.create_time())
    victim.send_signal(signal.SIGSTOP)
    while victim.status() != psutil.STATUS_STOPPED:  # until then it may take one more connection
        time.sleep(0.001)
    ports = frozenset(one.raddr.port for one in victim.net_connections("tcp") if one.raddr)
    events.killed.append((time.perf_counter(), ports))
    victim.kill()


async def hide(events: Events, client: httpx.AsyncClient) -> None:
    """Hide and show items, one after the other."""
    rng = random.Random(0)
    while True:
        await asyncio.sleep(CHANGE_SECONDS)
        item, of_item = rng.choice([*events.hidden.items()])
        change = Change(not of_item[-1].state, time.perf_counter(), math.inf)
        of_item.append(change)
        await until_done(client, "PATCH", f"/items/{item}", {"hidden": change.state})
        change.acknowledged = time.perf_counter()


async def add_ratings(events: Events, client: httpx.AsyncClient) -> None:
    """Store ratings of users whom no model knows, ten of each."""
    while not events.ended:
        await asyncio.sleep(RATING_SECONDS)
        path = f"/users/new{events.rated // 10}/ratings/{events.rated % 10 + CHANGED}"
        await until_done(client, "PUT", path, {"rating": 1 + events.rated % 5})
        events.rated += 1


async def until_done(client: httpx.AsyncClient, method: str, path: str, body: object) -> None:
    """Send a request again and again until it is acknowledged: its worker may be killed."""
    while True:
        with suppress(httpx.TransportError):
            answer = await client.request(method, path, json=body)
            if answer.is_success:
                return
        await asyncio.sleep(0.05)


async def compared(client: httpx.AsyncClient) -> int:
    """The number of ratings in the live error, once none waits."""
    while (quality := (await client.get("/quality")).json())["waiting"]:
        await asyncio.sleep(0.5)
    return sum(row["ratings"] for row in quality["figures"] if row["source"] == "all")


async def weigh(events: Events, parent: psutil.Process) -> None:
    while True:
        await asyncio.sleep(5)
        events.memory.append((time.perf_counter(), await asyncio.to_thread(_memory, parent)))
        for process in (parent, *workers_of(parent)):
            with suppress(psutil.NoSuchProcess):
                events.largest = max(events.largest, process.memory_info().rss)


@contextmanager
def hostile_client(events: Events, url: str) -> Iterator[None]:
    """It attacks until the block ends. Raises AssertionError if it had to end before."""
    command = [sys.executable, "-m", "tests.support.hostile", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "begun\n"
        try:
            yield
            assert attacker.poll() is None, "the hostile client has ended"
        finally:
            attacker.terminate()
            told = attacker.stdout.readline()
        events.attacks.update(json.loads(told))


def _memory(parent: psutil.Process) -> float:
    """What the service's processes have for themselves, in bytes: what they share depends on who else shares it."""
    total = 0.0
    for process in (parent, *workers_of(parent)):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss
    return total


async def soak(seconds: float, swap_every: float, kill_every: float, workers: int, *, hostile: bool = False) -> Soak:
    """Drive the service for so long, at half of its capacity; at a fifth, if a hostile client takes its time too."""
    with TemporaryDirectory() as folder:
        directory, asked, events = Path(folder), requests(USERS, ITEMS), Events()
        seeds = range(int(seconds / swap_every) + 1)
        versions = [
            publish_random(directory, USERS, ITEMS, FACTORS, SEEN, seed).version for seed in [*seeds, SPLIT_SEED]
        ]
        split = Split(versions.pop(), SHARE)
        truth = Truth(directory, [*versions, split.version], asked, split, events.hidden)
        activate(directory, versions[0])
        set_split(directory, split)
        with (
            serving(directory, "--workers", str(workers), shutdown_pause="1", log_sample="0") as service,
            ExitStack() as attacked,
        ):
            parent = psutil.Process(service.process.pid)
            load = Load(service.port, asked, truth)
            await load.open()
            await load.run(CAPACITY_SECONDS)
            capacity = statistics.median([await load.run(CAPACITY_SECONDS) for _ in range(3)])
            load.record = Record()
            async with (
                httpx.AsyncClient(base_url=service.url, timeout=30) as client,
                asyncio.TaskGroup() as disturbances,
            ):
                if hostile:
                    attacked.enter_context(hostile_client(events, service.url))
                tasks = [
                    disturbances.create_task(swap(events, directory, versions, swap_every)),
                    disturbances.create_task(kill(events, parent, kill_every)),
                    disturbances.create_task(weigh(events, parent)),
                    disturbances.create_task(hide(events, client)),
                ]
                rating = disturbances.create_task(add_ratings(events, client))
                rate = await load.run(seconds, capacity / (5 if hostile else 2))
                events.ended = True
                await rating
                for task in tasks:
                    task.cancel()
            await asyncio.to_thread(attacked.close)
            await load.settle()
            async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
                events.compared = await compared(client)
        return Soak(load.record, events, capacity, rate)
