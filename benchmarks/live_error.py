"""The live error under kill -9: is it that of a recomputation by hand?

    python -m benchmarks.live_error [--ratings 10000] [--clients 10] [--workers 2] [--kill-every 15] [--store URL]

Clients ask for a prediction and then store the rating, by PUT and by POST, each for users of their own, and again until
it is acknowledged. A worker is killed every few seconds. At the end `GET /quality` must say what follows from the
predictions that the clients were given: as many ratings, the same RMSE and MAE to 1e-6, by what predictions rest on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from models.registry.directory import publish
from tests.support.drafts import random_draft
from tests.support.live_error import rate_and_kill
from tests.support.service import serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("ratings", 10_000), ("clients", 10), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--kill-every", type=float, default=15.0)
    parser.add_argument("--store", help="URL of an empty store; by default a file of SQLite")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        publish(Path(folder), random_draft(seed=0))
        settings = {"new_items": "0"}  # on whose rows predictions rest, and the live error does not
        settings |= {} if options.store is None else {"store": options.store}
        with serving(folder, "--workers", str(options.workers), **settings) as service:
            began = time.perf_counter()
            outcome = rate_and_kill(
                service.url, service.process, options.ratings, options.clients, None, options.kill_every
            )
            seconds = time.perf_counter() - began
    print(
        f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores: {options.workers} workers, "
        f"{options.clients} clients, {options.ratings:,} ratings in {seconds:.0f} s, {outcome.killed} workers killed, "
        f"{outcome.repeated} requests sent again.\n\n"
        "| source | ratings | rmse | mae | by hand: ratings | rmse | mae |\n|---|---|---|---|---|---|---|"
    )
    for source, errors in sorted(outcome.by_hand.items()):
        row, number = outcome.figures[source], len(errors)
        rmse, mae = (sum(error**2 for error in errors) / number) ** 0.5, sum(map(abs, errors)) / number
        print(
            f"| {source} | {row['ratings']} | {row['rmse']:.7f} | {row['mae']:.7f} "
            f"| {number} | {rmse:.7f} | {mae:.7f} |"
        )
    print(f"\nDifferences: {outcome.differences() or 'none'}")
    sys.exit(bool(outcome.differences()))


if __name__ == "__main__":
    main()
