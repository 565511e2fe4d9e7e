"""How workers manage memory: what the allocator of the C library keeps, and when Python looks for cycles."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from app.memory import ARENAS
from tests.support.service import serving
from tests.support.soak import workers_of

HEAP = 64 << 20  # bytes that glibc reserves for an arena, at a multiple of it
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ 0 *$")


def arenas(pid: int) -> int:
    """The arenas of a process beside its first one, which is on the heap: heaps that begin at a multiple of `HEAP`."""
    lines = [LINE.match(line) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    spans = [(int(line[1], 16), int(line[2], 16), line[3]) for line in lines if line is not None]
    ends = {begin: end for begin, end, _ in spans}
    return sum(
        access == "rw-p" and begin % HEAP == 0 and ends.get(end, end) == begin + HEAP for begin, end, access in spans
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_the_threads_of_a_worker_share_few_arenas(checkpoints: Path, workers: int) -> None:
    users = [str(number) for number in range(40_000)]
    body = json.dumps({"users": users, "items": users}).encode()
    with serving(checkpoints, "--workers", str(workers)) as service:

        def ask(_: int) -> int:
            return httpx.post(f"{service.url}/predict", content=body, headers={"content-type": "application/json"},
                              timeout=60).status_code  # fmt: skip

        with ThreadPoolExecutor(8) as pool:
            assert 200 in pool.map(ask, range(16))
        parent = psutil.Process(service.process.pid)
        found = [arenas(process.pid) for process in (workers_of(parent) or [parent])]
        assert len(found) == workers
        assert max(found) < ARENAS


FULL_COLLECTIONS = """
import gc
from app.memory import collect_rarely

collect_rarely()
full = []
gc.callbacks.append(lambda phase, found: full.append(phase) if found["generation"] == 2 else None)
items = [{"item": {}} for _ in range(300_000)]
print(len(full))
"""


def test_reading_many_objects_starts_no_search_for_cycles_among_all() -> None:
    """Such a search holds the interpreter, and with it the event loop, for 60 ms where a body has 100,000 items."""
    done = subprocess.run([sys.executable, "-c", FULL_COLLECTIONS], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
