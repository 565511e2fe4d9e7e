"""What the largest and the most awkward requests take: memory of the service, and the time of others.

    python -m benchmarks.budget [--at-once 1 32] [--only TEXT]

The requests are made from the OpenAPI document and the limits (`tests/support/budget.py`): of every route and encoding.
The service has the default limits and an SQLite store. While each of them is answered, another client goes on to ask,
and `/health/live` is timed. This process is nice, so that it takes no time from the service that is not left over.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from models.registry.directory import publish
from tests.support.budget import Bystander, ask, cases
from tests.support.drafts import random_draft
from tests.support.service import serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--only", default="", help="those requests whose route or name matches")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        version = publish(Path(folder), random_draft(seed=0)).version
        publish(Path(folder), random_draft(seed=0))
        with serving(folder) as service:
            os.nice(10)
            process, bystander = psutil.Process(service.process.pid), Bystander(service.url)
            began = process.memory_info().rss
            print(f"{'request':<100} {'at once':>7} {'s':>6} {'MB more':>8} {'p99 ms':>7}  answers")
            for case in cases(httpx.get(f"{service.url}/openapi.json").json(), version):
                name = f"{case.operation} {case.name}"
                for times in given.at_once if re.search(given.only, name) else ():
                    cost = ask(service.url, case, times, process, bystander)
                    wrong = "".join(f" WRONG {text}" for text in cost.wrong[:1])
                    unexpected = "" if set(cost.statuses) <= case.statuses else " UNDOCUMENTED"
                    print(
                        f"{name[:100]:<100} {times:>7} {cost.seconds:>6.2f} {cost.grown / 1e6:>8.0f}"
                        f" {1000 * cost.p99():>7.0f}  {dict(cost.statuses)}{wrong}{unexpected}",
                        flush=True,
                    )
            bystander.close()
            print(f"in the end {(process.memory_info().rss - began) / 1e6:.0f} MB more than in the beginning")


if __name__ == "__main__":
    main()
