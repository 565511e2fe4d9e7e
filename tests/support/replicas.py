"""Replicas of the service behind the proxy of the compose file, and load through it whose every answer is checked."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.checked_load import Load, Record, Truth, requests
from tests.support.ports import held_port
from tests.support.proxy import Proxy
from tests.support.service import END_SECONDS, environment
from tests.support.waiting import until, wait_until

USERS, ITEMS = 943, 1682  # of the models that are asked, at least
AFTER = 3.0  # seconds after a kill in which a failure may be of a request that was in flight on the killed one


class Fleet:
    """Replicas at some addresses, all at one port.

    Args:
        checkpoints: a directory or a URL.
        addresses: of the replicas, on the loopback interface.
        port: of all of them.
        folder: for what each keeps, and its log.
        settings: of the service.
    """

    def __init__(self, checkpoints: str, addresses: Sequence[str], port: int, folder: Path, **settings: str) -> None:
        self.addresses, self.port = addresses, port
        self._checkpoints, self._folder = checkpoints, folder
        self._settings = {"shutdown_pause": "1", "store": "none"} | settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, address: str) -> None:
        """Start a replica, and do not wait for it."""
        settings = {"checkpoints": self._checkpoints, "checkpoint_cache": str(self._folder / address)}
        command = [sys.executable, "-m", "app", "--host", address, "--port", str(self.port), "--threads", "1"]
        with self._log(address).open("ab") as log:
            variables = environment(**(settings | self._settings))
            self.processes[address] = subprocess.Popen(command, env=variables, stderr=log)

    def repair(self, proxy: Proxy) -> None:
        """Start those that do not run, and wait until all are ready."""
        for address in self.addresses:
            process = self.processes.get(address)
            if process is None or process.poll() is not None:
                self.start(address)
        self.until_all_ready(proxy)

    def until_all_ready(self, proxy: Proxy) -> None:
        """Wait until the proxy sends requests to all. Fails at once where one of them has ended."""

        def all_ready() -> bool:
            for address, process in self.processes.items():
                assert process.poll() is None, self._log(address).read_text("utf-8")
            return proxy.ready() == len(self.addresses)

        wait_until(all_ready, proxy.process)

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
        return self.processes[address].wait(END_SECONDS)

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(END_SECONDS)

    async def rolled(self, version: str) -> float:
        """Wait until all replicas that run serve a version. Gives the seconds."""
        began = time.perf_counter()
        async with httpx.AsyncClient(timeout=END_SECONDS) as client:
            for address, process in self.processes.items():
                if process.poll() is None:
                    await until(
                        lambda address=address: self._serves(client, address, version),  # type: ignore[misc]
                        process,
                        log=self._log(address),
                    )
        return time.perf_counter() - began

    async def _serves(self, client: httpx.AsyncClient, address: str, version: str) -> bool:
        with suppress(httpx.TransportError):
            answer = await client.get(f"http://{address}:{self.port}/health/ready")
            return answer.status_code == 200 and answer.json().get("model_version") == version
        return False

    def _log(self, address: str) -> Path:
        return self._folder / f"{address}.log"


@contextmanager
def fleet_of(checkpoints: str, count: int, folder: Path, **settings: str) -> Iterator[Fleet]:
    """So many replicas, none of them started yet, on one port of 127.0.0.2, 127.0.0.3 and so on."""
    addresses = [f"127.0.0.{2 + number}" for number in range(count)]
    with held_port(addresses) as port:
        fleet = Fleet(checkpoints, addresses, port, folder, **settings)
        try:
            yield fleet
        finally:
            fleet.close()


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
