"""Lists of ten from a catalogue: `top_items` beside faiss and beside one matrix product and a top-k of torch.

    python -m benchmarks.topn [--rounds 15] [--threads 2] [--seen 100]

faiss searches `IndexFlatIP` with the item's bias as one more column. Neither it nor torch's top-k leaves out what each
user has seen; `top_items` is measured with and without that. The contenders take turns. Every list of `top_items` is
checked against a sort of all exact scores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from torch import Tensor

from benchmarks.all_products import all_products
from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.scoring import BilinearForm
from models.search import top_items

USERS, LIST = 1_000, 10
CASES = ((1_000_000, 64, 32), (1_000_000, 64, 1), (100_000, 64, 32), (100_000, 64, 1), (1_682, 48, 32), (1_682, 48, 1))
COLUMNS = (
    "items × factors",
    "batch",
    "ours",
    "ours, {seen} seen left out",
    "faiss",
    "torch mm + topk",
    "faiss / ours",
    "torch / ours",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seen", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, faiss {faiss.__version__}, {arguments.threads} threads; ms per user, medians\n")
    titles = [title.format(seen=arguments.seen) for title in COLUMNS]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for items, factors, batch in CASES:
        print(row(items, factors, batch, arguments.seen, arguments.rounds), flush=True)


def row(items: int, factors: int, batch: int, seen: int, rounds: int) -> str:
    draw = torch.Generator().manual_seed(0)
    shapes = ((USERS + 1, factors), (items + 1, factors), (USERS + 1,), (items + 1,))
    model = MatrixFactorization(torch.tensor(3.5), *(torch.randn(shape, generator=draw) * 0.3 for shape in shapes))
    ordering = by_rating(model)
    users_B = torch.randint(USERS, (batch,), generator=draw)
    offsets = torch.arange(batch + 1) * seen
    excluded = offsets, torch.randint(items, (batch * seen,), generator=draw, dtype=torch.int32)
    check(ordering, users_B, excluded)

    index = faiss.IndexFlatIP(factors + 1)
    index.add(torch.cat([model.item_factors[:-1], model.item_bias[:-1, None]], dim=1).numpy())
    queries = torch.cat([model.user_factors[users_B], torch.ones(batch, 1)], dim=1).numpy()
    contenders = (
        lambda: top_items(ordering, users_B, LIST),
        lambda: top_items(ordering, users_B, LIST, excluded=excluded),
        lambda: index.search(queries, LIST),
        lambda: all_products(model, users_B).topk(LIST, dim=1),
    )
    repeats = max(1, 100_000 // (items * batch))  # of calls too short to time one by one
    ours, ours_seen, theirs, torch_ = (1_000 * seconds / batch for seconds in medians(contenders, rounds, repeats))
    times = " | ".join(f"{value:.3f}" for value in (ours, ours_seen, theirs, torch_))
    return f"| {items:,} × {factors} | {batch} | {times} | {theirs / ours:.1f} | {torch_ / ours:.1f} |"


def medians(contenders: tuple[Callable[[], object], ...], rounds: int, repeats: int) -> list[float]:
    """Median seconds of a call of each, taken in turns; the first round is not counted."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds + 1):
        for contender, taken in zip(contenders, seconds, strict=True):
            began = time.perf_counter()
            for _ in range(repeats):
                contender()
            taken.append((time.perf_counter() - began) / repeats)
    return [statistics.median(taken[1:]) for taken in seconds]


def check(ordering: BilinearForm, users_B: Tensor, excluded: tuple[Tensor, Tensor]) -> None:
    """Raise AssertionError unless every list equals a sort of all exact scores by score and item."""
    items_I = torch.arange(ordering.item_count)
    offsets, items_M = excluded
    plain, without_seen = (top_items(ordering, users_B, LIST, excluded=left_out) for left_out in (None, excluded))
    for row, user in enumerate(users_B):
        scores_I = ordering.exact(user.expand(ordering.item_count), items_I).numpy()
        assert plain[row].tolist() == np.lexsort((items_I, -scores_I))[:LIST].tolist()
        scores_I[items_M[offsets[row] : offsets[row + 1]]] = -np.inf
        assert without_seen[row].tolist() == np.lexsort((items_I, -scores_I))[:LIST].tolist()


if __name__ == "__main__":
    main()
