"""Lists of ten from items on one device and spread over several shards, on the CPU or on CUDA.

    python -m benchmarks.shards [--items 1000000] [--factors 64] [--rounds 15] [--threads 2] [--device cpu]

All shards are on the one device, so that the difference is what sharding costs, not what a second device gains: the
search in several parts, the merge, and what is excluded divided among the parts. "one shard" is what the service asks
where a single device is named. The contenders take turns, and their lists are checked to be the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.scoring import BilinearForm
from models.search import top_items
from models.sharding import Sharded, spread

USERS, LIST, SEEN = 1_000, 10, 100
BATCHES, SHARDS = (1, 32), (2, 4)

Lists = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads; ms per user, medians, {SEEN} seen"
    )
    print(f"{arguments.items:,} items × {arguments.factors} factors\n")
    ordering = make_ordering(arguments.items, arguments.factors)
    for number, batch in enumerate(BATCHES):
        lists = contenders(ordering, batch, arguments.device)
        check(lists)
        if number == 0:
            print("| batch | " + " | ".join(lists) + " |\n" + "|---" * (len(lists) + 1) + "|")
        seconds = medians(lists, arguments.rounds, max(1, 100_000 // (arguments.items * batch)))
        base = next(iter(seconds.values()))
        cells = [f"{1_000 * taken / batch:.3f} ({taken / base:.2f}×)" for taken in seconds.values()]
        print(f"| {batch} | " + " | ".join(cells) + " |", flush=True)


def make_ordering(items: int, factors: int) -> BilinearForm:
    draw = torch.Generator().manual_seed(0)
    shapes = ((USERS + 1, factors), (items + 1, factors), (USERS + 1,), (items + 1,))
    return by_rating(
        MatrixFactorization(torch.tensor(3.5), *(torch.randn(shape, generator=draw) * 0.3 for shape in shapes))
    )


def contenders(ordering: BilinearForm, batch: int, device: torch.device) -> Mapping[str, Lists]:
    """What is measured, by its name; each gives the same lists, in the host's memory."""
    draw = torch.Generator().manual_seed(1)
    users_B = torch.randint(USERS, (batch,), generator=draw)
    items_M = torch.randint(ordering.item_count, (batch * SEEN,), generator=draw, dtype=torch.int32)
    excluded = torch.arange(batch + 1) * SEEN, items_M
    mean = None if ordering.mean is None else ordering.mean.to(device)
    there = BilinearForm(ordering.users.to(device), ordering.items.to(device), mean)

    def unsharded() -> Tensor:
        return top_items(there, users_B, LIST, excluded=excluded).cpu()

    def of(sharded: Sharded) -> Lists:
        return lambda: sharded.top_items(users_B, LIST, excluded=excluded)

    spreads = {number: spread({"": ordering}, [device] * number)[""] for number in SHARDS}
    return {
        "unsharded": unsharded,
        "one shard": of(Sharded.whole(there)),
        **{f"{number} shards": of(sharded) for number, sharded in spreads.items()},
    }


def check(lists: Mapping[str, Lists]) -> None:
    """Raise AssertionError unless all contenders give the same lists."""
    first, *others = (list_() for list_ in lists.values())
    assert all(torch.equal(first, other) for other in others)


def medians(lists: Mapping[str, Lists], rounds: int, repeats: int) -> dict[str, float]:
    """Median seconds of a call of each, taken in turns; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in lists}
    for _ in range(rounds + 1):
        for name, list_ in lists.items():
            began = time.perf_counter()
            for _ in range(repeats):
                list_()
            seconds[name].append((time.perf_counter() - began) / repeats)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
