"""How long the service takes until it answers, and how much memory its workers take together, for a large checkpoint.

    python -m benchmarks.startup [--items 1000000] [--users 100000] [--factors 64] [--ratings 10000000]

Publishes random tables in a temporary directory and starts `python -m app` on the CPU with one worker and with four.
Linux only: memory is read from /proc/PID/smaps of all processes of the service, the parent of the workers included.

- mapped: proportional set size (Pss) of the mappings of files of the checkpoint;
- private: private memory of all other mappings, less that of a service of as many workers with a tiny checkpoint.

Both are read when the service is ready, and again after lists and predictions that together read all tables in every
worker; the tiny service has answered the same requests. A checkpoint that has not been read yet takes no memory.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.drafts import publish_random
from tests.support.service import serving
from tests.support.waiting import wait_until

STARTS, WORKERS = 3, (1, 4)
CONNECTIONS = 12  # a worker; each goes to the worker that is first, so all get some
HEADER = (
    "| workers | ready s, median of 3 (range) | mapped MB at start | private MB at start | mapped MB, all read | "
    "private MB, all read | sum MB, all read |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    mapped: int
    private: int


def main() -> None:
    arguments = _arguments()
    with TemporaryDirectory() as folder:
        large, tiny = Path(folder) / "large", Path(folder) / "tiny"
        seen = arguments.ratings // arguments.users
        publish_random(large, arguments.users, arguments.items, arguments.factors, seen)
        publish_random(tiny, arguments.users // 1000, arguments.items // 1000, arguments.factors, seen)
        time.sleep(3)  # so that no file is younger than what the service takes for settled
        size = sum(file.stat().st_size for file in large.rglob("*") if file.is_file())
        print(
            f"{size / 1e6:.0f} MB; load average {os.getloadavg()[0]:.1f} before the first start\n\n{HEADER}", flush=True
        )
        sums = [_measure(large, tiny, workers) for workers in WORKERS]
        print(f"\nMemory of {WORKERS[1]} workers ÷ of {WORKERS[0]}: {sums[1] / sums[0]:.2f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("items", 1_000_000), ("users", 100_000), ("factors", 64), ("ratings", 10_000_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser.parse_args()


def _measure(large: Path, tiny: Path, workers: int) -> int:
    """Print a line of the table; returns the bytes when all has been read."""
    with _service(tiny, workers) as (port, pid, _):
        base = _memory(pid, tiny)
        _read_all(port, workers)
        base_read = _memory(pid, tiny)
    seconds = []
    for _ in range(STARTS):
        with _service(large, workers) as (port, pid, ready):
            seconds.append(ready)
            memory = _memory(pid, large)
            _read_all(port, workers)
            memory_read = _memory(pid, large)
    private, private_read = memory.private - base.private, memory_read.private - base_read.private
    total = memory_read.mapped + private_read
    figures = [memory.mapped, private, memory_read.mapped, private_read, total]
    spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})"
    print(f"| {workers} | {spread} | {' | '.join(f'{figure / 1e6:.0f}' for figure in figures)} |", flush=True)
    return total


@contextmanager
def _service(directory: Path, workers: int) -> Iterator[tuple[int, int, float]]:
    """A running service with all its workers up: its port, its process and the seconds until the first was ready."""
    started = time.perf_counter()
    with serving(directory, "--workers", str(workers), "--device", "cpu", anew=True) as running:
        ready = time.perf_counter() - started
        wait_until(
            lambda: running.log.read_text("utf-8").count("startup complete") == workers,
            running.process,
            log=running.log,
        )
        yield running.port, running.process.pid, ready


def _read_all(port: int, workers: int) -> None:
    """Open connections at once, so that every worker has some, and ask for a list and for predictions on each."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(CONNECTIONS * workers)]
    body = json.dumps({"users": [str(row) for row in range(1000)], "items": [str(row * 7) for row in range(1000)]})
    requests = [("GET", "/users/1/top", None), ("GET", "/users/nobody/top", None), ("POST", "/predict", body)]
    for method, path, content in requests:
        for connection in connections:
            connection.request(method, path, content, {"Content-Type": "application/json"})
        for connection in connections:
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
    for connection in connections:
        connection.close()


def _memory(pid: int, directory: Path) -> Memory:
    """Of a process and all that descend from it."""
    mapped = private = 0
    inside = False
    for line in (line for process in _family(pid) for line in Path(f"/proc/{process}/smaps").read_text().splitlines()):
        key, *values = line.split()
        if not key.endswith(":"):
            inside = line.endswith(".safetensors") | line.endswith(".arrow") and str(directory) in line
        elif key == "Pss:" and inside:
            mapped += int(values[0]) * 1024
        elif key in ("Private_Clean:", "Private_Dirty:") and not inside:
            private += int(values[0]) * 1024
    return Memory(mapped, private)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(kin for file in children for child in file.read_text().split() for kin in _family(int(child)))]


if __name__ == "__main__":
    main()
