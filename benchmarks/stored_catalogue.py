"""What a catalogue in the store costs: the start, a list, one change and memory, with as many items as the model has.

    python -m benchmarks.stored_catalogue [--items 1000000] [--users 10000] [--factors 64] [--starts 3] [--lists 400]

One service has an empty store; the other's store says of every item what the checkpoint says too, but hides one of a
hundred. They start in turn. Both run while lists are asked for, alternately, so that other work on the machine meets
both; each user is asked for once. CPU seconds are those of the process until it is ready, and tell more than the clock
where the machine is busy. Memory is the most that the process had. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import psutil

from app.ratings.database import Database
from app.ratings.items import ItemStore
from app.ratings.schema import address
from models.stored_items import StoredItem
from tests.support.drafts import publish_random
from tests.support.service import Service, serving

AT_ONCE, HIDDEN, CHANGES, WARM = 50_000, 100, 20, 10


class Started(NamedTuple):
    """Seconds until the service was ready, of its process and by the clock, and the most memory until then in GB."""

    processor: float
    clock: float
    memory: float


async def fill(url: str, items: int) -> None:
    """Store items as `publish_random` describes them, one of a hundred hidden."""
    database = Database(address(url))
    await database.prepare()
    for at in range(0, items, AT_ONCE):
        rows = range(at, min(at + AT_ONCE, items))
        await ItemStore(database).change(
            [StoredItem(str(row), f"Title {row}", 1999, ("Drama",), hidden=row % HIDDEN == 0) for row in rows]
        )
    await database.close()


def start(running: ExitStack, directory: Path, url: str) -> tuple[Service, Started]:
    began = time.perf_counter()
    service = running.enter_context(serving(directory, "--device", "cpu", anew=True, store=url, recent_lists="0"))
    clock = time.perf_counter() - began
    return service, Started(processor(service), clock, peak(service))


def processor(service: Service) -> float:
    """CPU seconds that a process has used."""
    used = psutil.Process(service.process.pid).cpu_times()
    return float(used.user + used.system)


def peak(service: Service) -> float:
    """The most memory that a process had, in GB."""
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def lists(services: list[Service], clients: list[httpx.Client], number: int) -> tuple[list[float], list[float]]:
    """Median milliseconds of a list of each service, and of its processor's; they are asked in turn."""
    taken: list[list[float]] = [[] for _ in clients]
    used = [0.0 for _ in clients]
    for user in range(number + WARM):
        if user == WARM:
            used = [processor(service) for service in services]
        for client, of_service in zip(clients, taken, strict=True):
            began = time.perf_counter()
            client.get(f"/users/{user}/top").raise_for_status()
            of_service.append(time.perf_counter() - began)
    used = [(processor(service) - before) / number * 1e3 for service, before in zip(services, used, strict=True)]
    return [statistics.median(of_service[WARM:]) * 1e3 for of_service in taken], used


def change(client: httpx.Client, title: bool) -> float:
    """Median seconds of a request that changes one item, and is answered when it is stored and shown here."""
    taken = []
    for turn in range(CHANGES):
        body = {"title": f"Name {turn}"} if title else {"hidden": turn % 2 == 0}
        began = time.perf_counter()
        client.patch(f"/items/{turn // 2 + 1}", json=body).raise_for_status()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("items", 1_000_000), ("users", 10_000), ("factors", 64), ("starts", 3), ("lists", 400)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        directory = Path(folder) / "checkpoints"
        publish_random(directory, options.users, options.items, options.factors, 100)
        urls = [f"sqlite:///{folder}/{name}.sqlite" for name in ("empty", "full")]
        asyncio.run(fill(urls[0], 0))
        asyncio.run(fill(urls[1], options.items))
        started: list[list[Started]] = [[], []]
        for _ in range(options.starts - 1):
            for url, found in zip(urls, started, strict=True):
                with ExitStack() as running:
                    found.append(start(running, directory, url)[1])
        with ExitStack() as running:
            services = []
            for url, found in zip(urls, started, strict=True):
                service, last = start(running, directory, url)
                services.append(service)
                found.append(last)
            clients = [running.enter_context(httpx.Client(base_url=service.url, timeout=60)) for service in services]
            times, used = lists(services, clients, options.lists)
            renamed, hidden = change(clients[1], title=True), change(clients[1], title=False)
            memory = [peak(service) for service in services]
    least = [Started(*map(min, zip(*found, strict=True))) for found in started]
    print(
        f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}: "
        f"{options.items:,} items, {options.starts} starts each, {options.lists} lists each.\n\n"
        "| | empty store | every item in the store | difference |\n|---|---|---|---|\n"
        + row("start, CPU seconds, least: ≤ 4 more", [one.processor for one in least], ".1f")
        + row("start, seconds by the clock, least", [one.clock for one in least], ".1f")
        + row("a list, p50, ms: ≤ 5 % more", times, ".2f", relative=True)
        + row("a list, CPU, mean, ms", used, ".2f", relative=True)
        + row("most memory until ready, GB", [one.memory for one in least], ".2f")
        + row("most memory, GB", memory, ".2f")
        + f"| one title changed, p50, ms | | {renamed * 1e3:.0f} | |\n"
        f"| one item hidden or shown, p50, ms | | {hidden * 1e3:.0f} | |"
    )


def row(name: str, values: list[float], form: str, *, relative: bool = False) -> str:
    empty, full = values
    more = f"{full / empty - 1:+.1%}" if relative else f"{full - empty:+{form}}"
    return f"| {name} | {empty:{form}} | {full:{form}} | {more} |\n"


if __name__ == "__main__":
    main()
