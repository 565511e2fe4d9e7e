"""A service that is asked for more than it can do: what it still answers, and whether health does.

    python -m benchmarks.overload [--seconds S] [--rounds N] [--out FILE]

Needs `wrk` (Debian: wrk). Load goes to loopback only. The peak is what 16 connections get that send their next request
when the last is answered. Peak and overload take turns; medians are printed. One worker, keys and metrics on. Health is
asked 40 times a second, each time on a new connection, and timed from when it was due.

    pair    predictions of one pair. Overload is 128 or 512 connections that ask again at once, always. What waits does
            so in the buffers of connections, and nothing is refused
    list    exact lists from 100,000 items, each found anew. Overload is twice the peak in requests a second, sent
            whether or not earlier ones were answered. What waits does so in the queue, and beyond it gets 503
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving import Server, get, post, service, write, wrk_command
from tests.support.drafts import publish_random

PEAK, SOME, MANY = 16, 128, 512  # connections
PROBES = 40  # a second
USERS, FACTORS, SEEN = 2_000, 64, 100


@dataclass(frozen=True)
class Outcome:
    """Answers a second, refusals a second, and the seconds that health took each time."""

    accepted: float
    refused: float
    health: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    lines = [
        f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.",
        "",
        "| | peak/s | accepted/s, overloaded | ÷ peak: ≥ 0.9 | refused/s | health p50, p99: ≤ 50 ms |",
        "|---|---|---|---|---|---|",
    ]
    with TemporaryDirectory() as folder:
        for name, items, connections in (("pair", 1_682, SOME), ("pair", 1_682, MANY), ("list", 100_000, MANY)):
            where = Path(folder) / f"{name}-{connections}"
            outcomes = measure(where, name, items, connections, arguments.seconds, arguments.rounds)
            lines.append(line(f"{name}, {connections} connections", *outcomes))
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as stream:
            stream.write("\n" + text)


def measure(
    folder: Path, name: str, items: int, connections: int, seconds: float, rounds: int
) -> tuple[Outcome, Outcome]:
    """Peak and overload."""
    publish_random(folder / "checkpoints", USERS, items, FACTORS, SEEN)
    rng = random.Random(0)  # noqa: S311
    users = [rng.randrange(USERS) for _ in range(500)]
    requests = {
        "pair": [post({"user": str(user), "item": str(rng.randrange(items))}) for user in users],
        "list": [get(f"/users/{user}/top") for user in users],
    }
    load = write(folder / "load", requests[name])
    peaks, overloads = [], []
    with service(folder / "checkpoints", RECENT_LISTS="0", MAX_QUEUED_LISTS="64") as server:
        closed(server, load, 1.0, PEAK)
        for _ in range(rounds):
            peaks.append(closed(server, load, seconds, PEAK))
            if name == "pair":
                overloads.append(closed(server, load, seconds, connections))
            else:
                overloads.append(opened(server, load, seconds, 2 * peaks[-1].accepted))
    return together(peaks), together(overloads)


def closed(server: Server, load: Path, seconds: float, connections: int) -> Outcome:
    """Connections that send their next request when the last was answered."""
    command = wrk_command(server, load, seconds + 1, connections)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as busy:
        time.sleep(0.7)  # for its connections
        health = probe(server, seconds)
        said = busy.communicate()[0]
    found = re.search(r"(\d+) requests in ([0-9.]+)s", said)
    assert found is not None, said
    assert "Non-2xx" not in said, said
    return Outcome(int(found[1]) / float(found[2]), 0.0, health)


def opened(server: Server, load: Path, seconds: float, rate: float) -> Outcome:
    """Requests at a rate."""
    files = sorted(str(file) for file in load.glob("*.http"))
    command = [sys.executable, "-m", "benchmarks.open_loop", "--port", str(server.port), "--rate", f"{rate:.0f}"]
    command += ["--seconds", str(seconds + 1), "--connections", str(MANY), "--requests", *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as busy:
        time.sleep(1.5)  # for its connections
        health = probe(server, seconds - 0.5)
        figures = json.loads(busy.communicate()[0])
    refused = figures["errors"] / (seconds + 1)
    return Outcome(figures["rate"] - refused, refused, health)


def probe(server: Server, seconds: float) -> list[float]:
    """Seconds that each request for health took."""
    took, start = [], time.perf_counter()
    for number in range(int(seconds * PROBES)):
        due = start + number / PROBES
        time.sleep(max(0.0, due - time.perf_counter()))
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4_096).startswith(b"HTTP/1.1 200")
        took.append(time.perf_counter() - due)
    return took


def together(outcomes: list[Outcome]) -> Outcome:
    """Medians of the rates, all of the probes."""
    return Outcome(
        statistics.median(outcome.accepted for outcome in outcomes),
        statistics.median(outcome.refused for outcome in outcomes),
        [seconds for outcome in outcomes for seconds in outcome.health],
    )


def line(name: str, peak: Outcome, overload: Outcome) -> str:
    p50, p99 = (statistics.quantiles(overload.health, n=100)[level - 1] * 1e3 for level in (50, 99))
    return (
        f"| {name} | {peak.accepted:,.0f} | {overload.accepted:,.0f} | {overload.accepted / peak.accepted:.2f} "
        f"| {overload.refused:,.0f} | {p50:.1f}, {p99:.1f} ms |"
    )


if __name__ == "__main__":
    main()
