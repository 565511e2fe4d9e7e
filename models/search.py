"""Exact top-N: matrix products find the candidates, the score of `models.scoring` decides among them.

It knows tables, row numbers and which cells are excluded, not what the scores mean or whose they are
(`docs/adr/0009-exact-top-n-by-blocks.md`). Shapes: I items, B users of a batch, N list length, M excluded items,
K candidates, C items to choose from.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.block_search import (
    EMPTY,
    LOWEST,
    STRETCH,
    BlockSearch,
    error,
    few_allowed,
    items_of,
    keys_of,
    user_rows,
    write_products,
)
from models.scoring import BilinearForm, Floats, Rows

ONE_BY_ONE = 3  # users on the CPU: of 100,000 × 64, one takes 1.9 ms alone; in blocks two take 6.4, four 5.4
DIRECT_NUMBERS = 1 << 20  # of a table: up to 1.4 million, exact scores of all items come before a bound and candidates

Search: TypeAlias = Generator[None, None, Tensor]


def top_items(
    ordering: BilinearForm,
    users_B: Tensor,
    n: int,
    *,
    excluded: tuple[Tensor, Tensor] | None = None,
    allowed_I: Tensor | None = None,
) -> Tensor:
    """The n best items of each user, best first, int64 (B, n), on the device of the ordering.

    Ordered by falling `ordering.exact`, equal ones by row; where fewer than n items are left, `NOTHING` fills the list.
    `users_B` are rows of users, int64; n is at least 1. `excluded` are items left out for each user, as offsets (B+1,)
    int64 and item rows (M,); repetitions do no harm. `allowed_I` are items to choose from, bool (I,); None is all.
    """
    (keys_BN,) = by_turns([search(ordering, users_B, n, excluded, allowed_I)])
    return items_of(keys_BN)


def search(
    ordering: BilinearForm, users_B: Tensor, n: int, excluded: tuple[Tensor, Tensor] | None, allowed_I: Tensor | None
) -> Search:
    """`top_items` as keys, int64 (B, n), each list in falling order: the larger key is the better item.

    It is a generator: it yields after each matrix product that it has launched, before waiting for it.
    """
    if ordering.is_on_cpu and 0 < len(users_B) <= ONE_BY_ONE:
        return _one_by_one(ordering, users_B, n, excluded, allowed_I)
    users_B = users_B.to(ordering.device)
    return (yield from BlockSearch(ordering, users_B, n, excluded, allowed_I).steps())


def by_turns(searches: Sequence[Search]) -> list[Tensor]:
    """The results of some searches. They take turns: all launch a product before the first waits for its own."""
    found: dict[int, Tensor] = {}
    while len(found) < len(searches):
        for number, steps in enumerate(searches):
            if number in found:
                continue
            try:
                next(steps)
            except StopIteration as done:
                found[number] = done.value
    return [found[number] for number in range(len(searches))]


def _one_by_one(
    ordering: BilinearForm, users_B: Tensor, n: int, excluded: tuple[Tensor, Tensor] | None, allowed_I: Tensor | None
) -> Tensor:
    keys_BN = torch.full((len(users_B), n), EMPTY)
    allowed = None if allowed_I is None else allowed_I.numpy()
    for row, user in enumerate(users_B.tolist()):
        excluded_M = None if excluded is None else excluded[1][excluded[0][row] : excluded[0][row + 1]].numpy()
        items_K, exact_K = map(torch.from_numpy, top_of_one(ordering, user, n, excluded_M, allowed))
        keys_BN[row, : len(items_K)] = keys_of(exact_K, items_K)
    return keys_BN


def top_of_one(
    ordering: BilinearForm,
    user: int,
    n: int,
    excluded_M: npt.NDArray[np.integer[Any]] | None = None,
    allowed_I: npt.NDArray[np.bool_] | None = None,
) -> tuple[Rows, Floats]:
    """`top_items` of one user on the CPU, with scores, at most n, by few calls of numpy, which start quickly.

    Few items are all scored exactly; of many items only the candidates of a product.
    """
    is_small = ordering.item_factors.numel() <= DIRECT_NUMBERS
    if is_small:
        scores_I, margin = ordering.scores_of_all(user), 0.0
    else:
        users_1 = torch.tensor([user])
        scores_I, margin = _products_of_one(ordering, users_1, allowed_I), 2 * float(error(ordering, users_1))
    if allowed_I is not None:
        np.copyto(scores_I, -np.inf, where=~allowed_I)
    if excluded_M is not None:
        scores_I[excluded_M] = -np.inf
    (candidates_C,) = (scores_I >= _rounded_down(_below_best(scores_I, n) - margin)).nonzero()
    exact_C = scores_I[candidates_C] if is_small else ordering.scores(user, candidates_C)
    best_N = (-exact_C).argsort(kind="stable")[:n]
    return candidates_C[best_N], exact_C[best_N]


def _products_of_one(ordering: BilinearForm, users_1: Tensor, allowed_I: npt.NDArray[np.bool_] | None) -> Floats:
    """`write_products` of one user for all items, or for few that are allowed and −inf for the others, shape (I,)."""
    rows_A = None if allowed_I is None else few_allowed(torch.from_numpy(allowed_I))
    rows = slice(0, ordering.item_count) if rows_A is None else rows_A
    scores_R1 = torch.empty(ordering.item_count if rows_A is None else len(rows_A), 1)
    write_products(ordering, users_1, user_rows(ordering, users_1).T, rows, scores_R1)
    if rows_A is None:
        return scores_R1.numpy()[:, 0]
    scores_I = np.full(ordering.item_count, -np.inf, dtype=np.float32)
    scores_I[rows_A.numpy()] = scores_R1.numpy()[:, 0]
    return scores_I


def _rounded_down(threshold: float) -> np.float32:
    """In float32 and above −inf, so that excluded items never reach it."""
    return np.float32(max(threshold - abs(threshold) * 2.0**-23, LOWEST) if math.isfinite(threshold) else LOWEST)


def _below_best(scores_I: npt.NDArray[np.float32], n: int) -> float:
    """A number that at least n of the scores reach, and few others; −inf if there are fewer than n scores."""
    whole = len(scores_I) // STRETCH * STRETCH
    if whole and 2 * n <= STRETCH:
        # n of these are n scores, and quicker to partition
        scores_I = scores_I[:whole].reshape(-1, STRETCH).max(axis=0)
    return float(np.partition(scores_I, -n)[-n]) if n <= len(scores_I) else -np.inf
