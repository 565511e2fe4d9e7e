"""How long the service takes until it answers, and how much memory its workers take together, for a large checkpoint.

    python -m benchmarks.startup [--items 1000000] [--users 100000] [--factors 64] [--ratings 10000000]

Publishes random tables in a temporary directory and starts `python -m app` on the CPU with one worker and with four.
Linux only: the proportional set size (Pss) of all processes of the service, the parent of the workers included, is read
from /proc/PID/smaps.

- ready: seconds until the first worker answers that it is ready; all: until all have started;
- CPU: seconds of all processes together until then;
- mapped: of the files of the checkpoint; other: of all else, such as code, the interpreter's objects and stacks.

Memory is read after lists and predictions that together read all tables in every worker. Code that another process of
the machine runs too counts less, so run it beside no other program with torch.
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
    "| workers | ready s, median of 3 (range) | all s, median | CPU s, median | mapped MB | other MB | sum MB |\n"
    "|---|---|---|---|---|---|---|"
)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    mapped: int
    other: int


@dataclass(frozen=True, slots=True)
class Started:
    """A service that has started, and the seconds that it took."""

    port: int
    pid: int
    ready: float
    all: float
    cpu: float


def main() -> None:
    arguments = _arguments()
    with TemporaryDirectory() as folder:
        seen = arguments.ratings // arguments.users
        publish_random(Path(folder), arguments.users, arguments.items, arguments.factors, seen)
        time.sleep(3)  # so that no file is younger than what the service takes for settled
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        print(
            f"{size / 1e6:.0f} MB; load average {os.getloadavg()[0]:.1f} before the first start\n\n{HEADER}", flush=True
        )
        sums = [_measure(Path(folder), workers) for workers in WORKERS]
        print(f"\nMemory of {WORKERS[1]} workers ÷ of {WORKERS[0]}: {sums[1] / sums[0]:.2f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("items", 1_000_000), ("users", 100_000), ("factors", 64), ("ratings", 10_000_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser.parse_args()


def _measure(directory: Path, workers: int) -> int:
    """Print a line of the table; returns the bytes when all has been read."""
    starts = []
    for _ in range(STARTS):
        with _service(directory, workers) as started:
            starts.append(started)
            _read_all(started.port, workers)
            memory = _memory(started.pid, directory)
    ready = [start.ready for start in starts]
    spread = f"{statistics.median(ready):.1f} ({min(ready):.1f}–{max(ready):.1f})"
    seconds = (statistics.median(getattr(start, name) for start in starts) for name in ("all", "cpu"))
    figures = [memory.mapped, memory.other, memory.mapped + memory.other]
    cells = [*(f"{each:.1f}" for each in seconds), *(f"{figure / 1e6:.0f}" for figure in figures)]
    print(f"| {workers} | {spread} | {' | '.join(cells)} |", flush=True)
    return memory.mapped + memory.other


@contextmanager
def _service(directory: Path, workers: int) -> Iterator[Started]:
    """A running service with all its workers up."""
    began = time.perf_counter()
    with serving(directory, "--workers", str(workers), "--device", "cpu", anew=True) as running:
        ready = time.perf_counter() - began
        wait_until(
            lambda: running.log.read_text("utf-8").count("startup complete") == workers,
            running.process,
            log=running.log,
        )
        pid = running.process.pid
        yield Started(running.port, pid, ready, time.perf_counter() - began, sum(map(_cpu_seconds, _family(pid))))


def _cpu_seconds(pid: int) -> float:
    """Of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


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
    mapped = other = 0
    inside = False
    for line in (line for process in _family(pid) for line in Path(f"/proc/{process}/smaps").read_text().splitlines()):
        key, *values = line.split()
        if not key.endswith(":"):
            inside = line.endswith((".safetensors", ".arrow")) and str(directory) in line
        elif key == "Pss:" and inside:
            mapped += int(values[0]) * 1024
        elif key == "Pss:":
            other += int(values[0]) * 1024
    return Memory(mapped, other)


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(kin for file in children for child in file.read_text().split() for kin in _family(int(child)))]


if __name__ == "__main__":
    main()
