"""The service under load, while much changes and workers are killed: is every answer right, and does memory stay?

    python -m benchmarks.soak [--seconds S] [--swap-every 10] [--kill-every 60] [--workers 2] [--hostile] [--out FILE]

Random models of MovieLens-100K's size are published beforehand and made current one after the other, so that every swap
loads and verifies a version that no worker knows. Requests (pairs, columns, lists) leave at half of the capacity that
the same client measured before. Each answer is checked against the version it names: by the formula in float64 from the
checkpoint's tables, to 1e-4. A request may fail only if it was on a connection of a worker that was killed: the worker
is stopped, its connections are listed, then it is killed. Load goes to loopback only.

A version beside the current one answers three of ten users; an answer is wrong if it names another version than that
of its users. Items are hidden and shown; a list is wrong if it shows a state that was over a second before it was asked
for. New users rate; at the end the live error must have counted each of their ratings once.

With --hostile a client attacks meanwhile (`tests/support/hostile.py`): the largest and most awkward requests of every
route, framing that can be read in two ways, heads and trailers without end, slow and abandoned connections. The load is
then a fifth of the capacity.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import uvloop

from tests.support.checked_load import Record
from tests.support.soak import Events, Soak, soak

SETTLED = 300.0  # seconds after which memory should not grow
STARTING = 10.0  # seconds that a new worker takes the cores for
WINDOW = 1.0  # seconds after a swap that count as "during" it


def report(done: Soak, arguments: argparse.Namespace) -> list[str]:
    record, events, others = done.record, done.events, Counter(what for _, _, what in done.unexplained)
    during, before = _latencies_around_swaps(record, events)
    early, late = _memory_early_and_late(events.memory)
    rows = {
        "answers checked": f"{record.answered:,}",
        "wrong for the version they name, or mixed: 0": record.wrong,
        "items hidden or shown meanwhile": f"{events.changes:,}",
        "ratings stored; compared by the live error: as many": f"{events.rated:,}; {events.compared:,}",
        "swaps; versions that answered": f"{len(events.swaps)}; {len(record.last_named)}",
        "workers killed; requests under way on them that failed": (
            f"{len(events.killed)}; {len(record.failures) - others.total()}"
        ),
        "other failed requests: 0": f"{others.total()} {dict(others) or ''}",
        "seconds from a swap to the last older answer: ≤ 2": f"{_following(record, events):.2f} at most",
        f"p99 within {WINDOW:g} s of a swap ÷ p99 before it: ≤ 2": (
            f"{during:.1f} ms ÷ {before:.1f} ms = {during / before:.2f}"
        ),
        f"memory after {SETTLED:g} s, at the end: ≤ 2 % growth": (
            f"{early / 1e6:.1f} MB, {late / 1e6:.1f} MB: {late / early - 1:+.1%}"
        ),
    }
    if events.attacks:
        rows["attacks of the hostile client; answered with 500: 0"] = (
            f"{events.attacks.total():,}; {_bugs(events)}: "
            + ", ".join(f"{kind} {number:,}" for kind, number in sorted(events.attacks.items()))
        )
    rows["resident memory of a process: ≤ 1 GB"] = f"{events.largest / 1e6:.0f} MB at most"
    return [
        (
            f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {arguments.seconds:g} s, "
            f"{arguments.workers} workers, a swap every {arguments.swap_every:g} s, a worker killed every "
            f"{arguments.kill_every:g} s; capacity {done.capacity:,.0f} requests/s, load {done.rate:,.0f}/s."
        ),
        "",
        "| asked | measured |",
        "|---|---|",
        *(f"| {asked} | {measured} |" for asked, measured in rows.items()),
    ]


def _bugs(events: Events) -> int:
    """How many attacks were answered with 500."""
    return sum(number for outcome, number in events.attacks.items() if outcome.endswith(" 500"))


def _latencies_around_swaps(record: Record, events: Events) -> tuple[float, float]:
    """p99 in milliseconds within `WINDOW` after swaps and before them, without the time while a worker starts."""
    due, took = np.frombuffer(record.due), np.frombuffer(record.took)
    swaps, killed = (np.array([when for when, _ in what]) for what in (events.swaps, events.killed))
    calm = ~_within(due, killed, STARTING)
    during, before = calm & _within(due, swaps, WINDOW), calm & _within(due, swaps - WINDOW, WINDOW)
    p99 = [float(np.percentile(took[part], 99)) * 1e3 if part.any() else float("nan") for part in (during, before)]
    return p99[0], p99[1]


def _within(when: npt.NDArray[np.float64], starts: npt.NDArray[np.float64], seconds: float) -> npt.NDArray[np.bool_]:
    """Whether each time is within so many seconds after one of the starts, which ascend."""
    last = np.concatenate([[-np.inf], starts])[np.searchsorted(starts, when, side="right")]
    return np.asarray(when - last <= seconds)


def _following(record: Record, events: Events) -> float:
    """Seconds from when a version was made current to the last answer of the one before it, at most."""
    order = [version for _, version in events.swaps]
    waits = [
        record.last_named[before] - when
        for before, (when, _) in zip(order, events.swaps[1:], strict=False)
        if before in record.last_named
    ]
    return max(waits, default=float("nan"))


def _memory_early_and_late(memory: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Median bytes of the two minutes after `SETTLED` seconds, and of the last two."""
    if not memory or memory[-1][0] - memory[0][0] < SETTLED:
        return float("nan"), float("nan")
    start, end = memory[0][0], memory[-1][0]
    early = [size for when, size in memory if SETTLED <= when - start <= SETTLED + 120]
    return statistics.median(early), statistics.median([size for when, size in memory if end - when <= 120])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--swap-every", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hostile", action="store_true", help="a hostile client attacks meanwhile")
    parser.add_argument("--out", type=Path, help="append the table to this Markdown file")
    arguments = parser.parse_args()
    given = arguments.seconds, arguments.swap_every, arguments.kill_every, arguments.workers
    done = uvloop.run(soak(*given, hostile=arguments.hostile))
    text = "\n".join(report(done, arguments)) + "\n"
    print(text)
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as stream:
            stream.write("\n" + text)
    missed = done.events.compared != done.events.rated
    sys.exit(bool(done.record.wrong or done.unexplained or missed or _bugs(done.events)))


if __name__ == "__main__":
    main()
