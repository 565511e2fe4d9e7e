"""How fast the Python client asks: pairs a second through frames, single predictions a second.

    PYTHONPATH=client/src python -m benchmarks.client [--rows 1000000] [--singles 5000]

Publishes a random model of MovieLens-1M's size in a temporary directory and starts `python -m app` on the CPU with one
worker; the client is on the same machine. Frames have integer ids; each line is the median of three runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pandas as pd
from ratecast_client import AsyncClient, Client, frames

from tests.support.drafts import publish_random
from tests.support.service import serving

USERS, ITEMS, FACTORS, SEEN = 6_040, 3_706, 30, 100
RUNS, TASKS = 3, 32


def main() -> None:
    arguments = _arguments()
    with TemporaryDirectory() as folder:
        publish_random(Path(folder), USERS, ITEMS, FACTORS, SEEN)
        with serving(Path(folder), "--device", "cpu") as service:
            print(f"load average {os.getloadavg()[0]:.1f} at the start\n\n| what | a second |\n|---|---|")
            _frames(service.url, arguments.rows)
            _singles(service.url, arguments.singles)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--singles", type=int, default=5_000)
    return parser.parse_args()


def _frames(url: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame({"user": rng.integers(0, USERS, rows), "item": rng.integers(0, ITEMS, rows)})
    texts = pairs.astype(str)
    with Client(url) as client:
        _line("pairs, predict_frame, integers as Arrow", rows, lambda: client.predict_frame(pairs))
        _line("pairs, predict_frame, texts as Arrow", rows, lambda: client.predict_frame(texts))
        arrow, frames._pyarrow = frames._pyarrow, lambda: None  # noqa: SLF001 - as where pyarrow is not installed
        _line("pairs, predict_frame, integers as JSON", rows, lambda: client.predict_frame(pairs))
        frames._pyarrow = arrow  # noqa: SLF001
        users = range(min(USERS, rows // 100))
        _line("lists of 10, recommend_frame", len(users), lambda: client.recommend_frame(users))


def _singles(url: str, count: int) -> None:
    with Client(url) as client:
        _line(
            "predictions, predict, sync",
            count,
            lambda: [client.predict(row % USERS, row % ITEMS) for row in range(count)],
        )
    _line(f"predictions, predict, async, {TASKS} tasks", count, lambda: asyncio.run(_many_tasks(url, count)))
    with httpx.Client(base_url=url) as http:
        _line("the same, httpx alone", count, lambda: [_plain(http, row) for row in range(count)])


async def _many_tasks(url: str, count: int) -> None:
    async with AsyncClient(url) as client:

        async def ask(first: int) -> None:
            for row in range(first, count, TASKS):
                await client.predict(row % USERS, row % ITEMS)

        await asyncio.gather(*map(ask, range(TASKS)))


def _plain(http: httpx.Client, row: int) -> float:
    answer = http.post("/predict", json={"user": str(row % USERS), "item": str(row % ITEMS)}).raise_for_status()
    return float(answer.json()["rating"])


def _line(what: str, count: int, run: Callable[[], object]) -> None:
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    print(f"| {what} | {count / statistics.median(seconds):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
