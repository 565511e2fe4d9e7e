"""Replicas behind the proxy of the compose file, while they are killed, stopped and given new versions: what it costs.

    python -m benchmarks.replicas [--seconds 60] [--replicas 4] [--rate R] [--from directory|url] [--out FILE]

Replicas are services of one worker on loopback addresses of their own. All read one directory, or each keeps a copy of
what is behind a `file://` URL. Requests (pairs, columns, lists) leave at a rate, by default half of what the client
gets through the proxy; every answer is checked against the version that it names. In turn a replica is killed (SIGKILL)
and started again, a version is made current, and a replica is stopped (SIGTERM) and started again, each some seconds
after the last is over. Needs haproxy (Debian: haproxy). Load goes to loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvloop

from benchmarks.checked_load import Load, Record, Truth, requests
from benchmarks.local_proxy import Proxy, free_port, proxy
from benchmarks.random_model import publish_random
from models.registry.directory import current_version
from models.registry.lifecycle import activate

USERS, ITEMS, FACTORS, SEEN = 943, 1682, 48, 100
PATIENCE = 120.0
AFTER = 3.0  # seconds after a kill in which a failure may be of a request that was in flight on the killed one


class Fleet:
    """Replicas on one port of 127.0.0.2, 127.0.0.3 and so on.

    Args:
        checkpoints: a directory or a URL.
        count: how many replicas.
        folder: for what each keeps, and its log.
        settings: of the service.
    """

    def __init__(self, checkpoints: str, count: int, folder: Path, **settings: str) -> None:
        self.addresses = [f"127.0.0.{2 + number}" for number in range(count)]
        self.port = free_port(self.addresses)
        self._checkpoints, self._folder, self._settings = checkpoints, folder, settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, address: str) -> None:
        """Start a replica, and do not wait for it."""
        settings = {"CHECKPOINTS": self._checkpoints, "CHECKPOINT_CACHE": str(self._folder / address), "STORE": "none"}
        settings |= {name.upper(): value for name, value in self._settings.items()}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RATECAST_")}
        environment |= {f"RATECAST_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "app", "--host", address, "--port", str(self.port), "--threads", "1"]
        with (self._folder / f"{address}.log").open("ab") as log:
            self.processes[address] = subprocess.Popen(command, env=environment, stderr=log)

    def repair(self, proxy: Proxy) -> None:
        """Start those that do not run, and wait until all are ready."""
        for address in self.addresses:
            process = self.processes.get(address)
            if process is None or process.poll() is not None:
                self.start(address)
        proxy.until_ready(len(self.addresses), PATIENCE)

    def kill(self, address: str, proxy: Proxy) -> int:
        """Kill a replica. Gives how many requests it had."""
        process = self.processes[address]
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.02)  # requests still come
        under_way = int(proxy.replicas()[address]["scur"])
        process.kill()
        process.wait()
        return under_way

    def stop(self, address: str) -> int:
        """Tell a replica to stop, and wait. Gives its exit code."""
        self.processes[address].terminate()
        return self.processes[address].wait(PATIENCE)

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE)

    async def rolled(self, version: str) -> float:
        """Wait until all replicas that run serve a version. Gives the seconds."""
        began = time.perf_counter()
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            for address, process in self.processes.items():
                while process.poll() is None and await self._serves(client, address) != version:
                    assert time.perf_counter() - began < PATIENCE, f"{address} does not serve {version}"
                    await asyncio.sleep(0.02)
        return time.perf_counter() - began

    async def _serves(self, client: httpx.AsyncClient, address: str) -> str | None:
        with suppress(httpx.TransportError):
            answer = await client.get(f"http://{address}:{self.port}/health/ready")
            return answer.json().get("model_version") if answer.status_code == 200 else None
        return None


@dataclass
class Outcome:
    """What was done, and what it cost.

    Attributes:
        through, direct: answers a second that the client gets from all replicas, and from one without the proxy.
        killed: when, and how many requests the replica had.
        stopped: when. rolls: seconds until all replicas served a version.
    """

    record: Record
    rate: float
    through: float = 0.0
    direct: float = 0.0
    killed: list[tuple[float, int]] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)
    rolls: list[float] = field(default_factory=list)

    @property
    def beyond(self) -> int:
        """Failures beyond those of requests in flight on a killed replica."""
        times = [when for when, *_ in self.record.failures]
        explained = sum(min(had, sum(when <= t <= when + AFTER for t in times)) for when, had in self.killed)
        return len(times) - explained


def open_load(port: int, directory: Path) -> Load:
    asked = requests(USERS, ITEMS)
    versions = [path.parent.name for path in directory.glob("*/manifest.json")]
    return Load(port, asked, Truth(directory, versions, asked))


@asynccontextmanager
async def loaded(load: Load, rate: float) -> AsyncIterator[None]:
    """Requests at a rate for the time of the block, and all of them answered after it."""
    await load.open()
    running = asyncio.ensure_future(load.run(24 * 3600, rate))
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await load.settle()


async def capacity(port: int, directory: Path, seconds: float, host: str = "127.0.0.1") -> float:
    load = open_load(port, directory)
    load.host = host
    await load.open()
    await load.run(1.0)
    found = await load.run(seconds)
    await load.settle()
    return found


async def ordeal(fleet: Fleet, front: Proxy, directory: Path, seconds: float, every: float, rate: float) -> Outcome:
    """Kill, stop and swap in turn under load."""
    load = open_load(front.port, directory)
    outcome = Outcome(load.record, rate)
    versions = sorted(path.parent.name for path in directory.glob("*/manifest.json"))
    end, turn = time.perf_counter() + seconds, 0
    async with loaded(load, rate):
        while time.perf_counter() < end:
            await asyncio.sleep(every)
            address = fleet.addresses[turn // 3 % len(fleet.addresses)]
            match turn % 3:
                case 0:
                    when = time.perf_counter()
                    outcome.killed.append((when, await asyncio.to_thread(fleet.kill, address, front)))
                    await asyncio.to_thread(front.until_ready, len(fleet.addresses) - 1, PATIENCE)
                    fleet.start(address)
                case 1:
                    following = versions.index(current_version(directory)) + 1
                    version = versions[following % len(versions)]
                    await asyncio.to_thread(activate, directory, version)
                    outcome.rolls.append(await fleet.rolled(version))
                case 2:
                    outcome.stopped.append(time.perf_counter())
                    assert await asyncio.to_thread(fleet.stop, address) == 0
                    fleet.start(address)
            turn += 1
            await asyncio.to_thread(front.until_ready, len(fleet.addresses), PATIENCE)
    return outcome


async def measure(count: int, seconds: float, every: float, rate: float | None, source: str, folder: Path) -> Outcome:
    directory = folder / "checkpoints"
    for seed in range(4):
        publish_random(directory, USERS, ITEMS, FACTORS, SEEN, seed=seed)
    fleet = Fleet(str(directory) if source == "directory" else f"file://{directory}", count, folder)
    try:
        with proxy(fleet.addresses, fleet.port) as front:
            await asyncio.to_thread(fleet.repair, front)
            through = await capacity(front.port, directory, 3.0)
            direct = await capacity(fleet.port, directory, 3.0, fleet.addresses[0])
            outcome = await ordeal(fleet, front, directory, seconds, every, rate or through / 2)
    finally:
        fleet.close()
    outcome.through, outcome.direct = through, direct
    return outcome


def table(count: int, source: str, outcome: Outcome) -> str:
    record = outcome.record
    longest = f"{max(outcome.rolls):.1f} s" if outcome.rolls else "none"
    return "\n".join(
        [
            f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.",
            "",
            f"| {count} replicas, versions from a {source} | |",
            "|---|---|",
            f"| requests answered, at {outcome.rate:,.0f}/s | {record.answered:,} |",
            f"| wrong answers | {record.wrong} |",
            f"| requests failed | {len(record.failures)} |",
            f"| replicas killed | {len(outcome.killed)} |",
            f"| … requests they had | {sum(had for _, had in outcome.killed)} |",
            f"| requests failed beyond those | {outcome.beyond} |",
            f"| replicas stopped | {len(outcome.stopped)} |",
            f"| versions rolled through all replicas | {len(outcome.rolls)} |",
            f"| … the longest took | {longest} |",
            f"| capacity through the proxy, all replicas | {outcome.through:,.0f} answers/s |",
            f"| capacity of one replica without it | {outcome.direct:,.0f} answers/s |",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=3.0, help="seconds from one event to the next")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--rate", type=float, help="requests a second [half of the capacity]")
    parser.add_argument("--from", dest="source", choices=("directory", "url"), default="directory")
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="replicas-") as folder:
        outcome = uvloop.run(
            measure(given.replicas, given.seconds, given.every, given.rate, given.source, Path(folder))
        )
    text = table(given.replicas, given.source, outcome)
    print(text)
    if given.out:
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write(text)
    if outcome.record.wrong or outcome.beyond or max(outcome.rolls, default=0) > 10:
        sys.exit("not what was promised")


if __name__ == "__main__":
    main()
