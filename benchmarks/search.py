"""How long a search for titles and users takes in a large catalogue, and the first one, which folds the titles.

    python -m benchmarks.search [--items 1000000] [--users 100000]

Titles are three words of a vocabulary, a tenth of them with accents. It calls the engine's functions on the thread that
they run on in the service; nothing else is measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from app.engine.search import find_items, find_users
from app.engine.serving_model import ServingModel
from app.engine.types import ItemFilter
from models.checkpoint.reader import Checkpoint
from models.registry.directory import load
from tests.support.drafts import publish_random

ROUNDS = 7
WORDS = np.array(["star", "wars", "matrix", "the", "love", "of", "day", "night", "return", "café"])
QUERIES = {
    "one word of a tenth of the titles": "matrix",
    "two words": "star wars",
    "one letter": "a",
    "nothing found": "zzz",
    "without a query": "",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        publish_random(Path(folder), arguments.users, arguments.items, factors=8, seen=20)
        served = ServingModel(_titled(load(Path(folder))))
        began = time.perf_counter()
        find_items(served, "matrix", 10, ItemFilter())
        print(f"{arguments.items:,} items, {arguments.users:,} users\n\n| search | ms, median of {ROUNDS} |\n|---|---|")
        print(f"| the first of a version | {1e3 * (time.perf_counter() - began):.0f} |")
        for name, query in QUERIES.items():
            print(f"| {name} | {_milliseconds(lambda query=query: find_items(served, query, 10, ItemFilter())):.1f} |")
        years = ItemFilter(None, 1990, 1999)
        print(f"| one word, of some years | {_milliseconds(lambda: find_items(served, 'matrix', 10, years)):.1f} |")
        print(f"| users by a prefix | {_milliseconds(lambda: find_users(served, '12', 10)):.1f} |")


def _titled(loaded: Checkpoint) -> Checkpoint:
    words = WORDS[np.random.default_rng(0).integers(0, len(WORDS), (len(loaded.items), 3))]
    titles = pa.array([" ".join(row) for row in words.tolist()])
    column = loaded.catalogue.schema.get_field_index("title")
    return replace(loaded, catalogue=loaded.catalogue.set_column(column, "title", titles))


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
