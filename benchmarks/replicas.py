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
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from models.registry.directory import activate, current_version
from tests.support.drafts import publish_random
from tests.support.proxy import Proxy, proxy
from tests.support.replicas import ITEMS, USERS, Fleet, Outcome, fleet_of, loaded, open_load

FACTORS, SEEN = 48, 100


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
                    await asyncio.to_thread(front.until_ready, len(fleet.addresses) - 1)
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
            await asyncio.to_thread(fleet.until_all_ready, front)
    return outcome


async def measure(count: int, seconds: float, every: float, rate: float | None, source: str, folder: Path) -> Outcome:
    directory = folder / "checkpoints"
    for seed in range(4):
        publish_random(directory, USERS, ITEMS, FACTORS, SEEN, seed=seed)
    checkpoints = str(directory) if source == "directory" else f"file://{directory}"
    with fleet_of(checkpoints, count, folder) as fleet, proxy(fleet.addresses, fleet.port) as front:
        await asyncio.to_thread(fleet.repair, front)
        through = await capacity(front.port, directory, 3.0)
        direct = await capacity(fleet.port, directory, 3.0, fleet.addresses[0])
        outcome = await ordeal(fleet, front, directory, seconds, every, rate or through / 2)
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
