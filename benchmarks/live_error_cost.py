"""What the live error adds to storing a rating: PUTs of new ratings by one client, with and without it, alternately.

    python -m benchmarks.live_error_cost [--rounds 20] [--ratings 100] [--databases sqlite postgresql]

Both services serve the same model, each with an empty store of its own. In each round both store as many new ratings,
in turn, and the first of a round is the second of the next. A round is to last over a second, so that comparing what
came in is part of it. Linux only.
"""

from __future__ import annotations

import argparse
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
import sqlalchemy as sa

from benchmarks.store import database
from models.registry.directory import publish
from tests.support.drafts import random_draft
from tests.support.service import Service, serving

USERS, ITEMS = 943, 1682
PROGRAMS = "app", "benchmarks.without_live_error"
TRIGGERS = {f"ratecast_note_{what}": "ratings" for what in ("new", "change", "removal")} | {
    "ratecast_note_deletion": "ratecast_deletions"
}


class Round(NamedTuple):
    """Milliseconds of a PUT, by the clock and of the service's processor."""

    clock: float
    processor: float


def put(service: Service, client: httpx.Client, first: int, count: int) -> Round:
    """Store ratings of pairs that have none, from the one with this number on."""
    process = psutil.Process(service.process.pid)
    used, began = sum(process.cpu_times()[:2]), time.perf_counter()
    for number in range(first, first + count):
        path = f"/users/{1 + number % USERS}/ratings/{1 + (number // USERS + number) % ITEMS}"
        client.put(path, json={"rating": 1 + number % 5}).raise_for_status()
    clock, processor = time.perf_counter() - began, sum(process.cpu_times()[:2]) - used
    return Round(clock / count * 1e3, processor / count * 1e3)


def drop_triggers(url: str) -> None:
    """Let nothing note what comes in."""
    address = sa.make_url(url)
    sqlite = address.get_backend_name() == "sqlite"
    engine = sa.create_engine(address if sqlite else address.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for name, table in TRIGGERS.items():
            connection.execute(sa.text(f"DROP TRIGGER {name}" + ("" if sqlite else f" ON {table}")))
    engine.dispose()


def rounds(kind: str, options: argparse.Namespace) -> list[list[Round]]:
    """The rounds of the service with the live error, and those of the one without."""
    with TemporaryDirectory() as folder, ExitStack() as running:
        publish(Path(folder), random_draft(seed=0))
        stores = [running.enter_context(database(kind)) for _ in PROGRAMS]
        services = [
            running.enter_context(serving(folder, program=program, device="cpu", store=store))
            for program, store in zip(PROGRAMS, stores, strict=True)
        ]
        drop_triggers(stores[1])
        clients = [running.enter_context(httpx.Client(base_url=service.url, timeout=60)) for service in services]
        found: list[list[Round]] = [[], []]
        for number in range(options.rounds + 1):
            for at in (0, 1) if number % 2 else (1, 0):
                taken = put(services[at], clients[at], number * options.ratings, options.ratings)
                if number:  # the first round warms up
                    found[at].append(taken)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ratings", type=int, default=100)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    print(
        f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}: "
        f"{options.rounds} rounds of {options.ratings} PUTs; medians of the rounds.\n\n"
        "| a PUT | with live error, ms | without, ms | ratio |\n|---|---|---|---|"
    )
    for kind in options.databases:
        found = rounds(kind, options)
        for at, name in enumerate(("by the clock: ≤ 10 % more", "of the processor")):
            columns = [[one[at] for one in of_service] for of_service in found]
            ratio = statistics.median(own / other for own, other in zip(*columns, strict=True))
            own, other = map(statistics.median, columns)
            print(f"| {kind}, {name} | {own:.2f} | {other:.2f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
