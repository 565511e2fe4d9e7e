"""Orderings with many ties or none, what to ask of them, and the answer by sorting every exact score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st

from models.block_search import NOTHING
from models.mf import MatrixFactorization
from models.orderings import by_lower_bound, by_popularity, by_rating
from models.scoring import BilinearForm, Side

USERS = 6
KINDS = ("rating", "lower_bound", "factors", "popularity")

Case: TypeAlias = tuple[BilinearForm, list[int], int, list[list[int]], list[bool] | None]


def by_factors(user_factors: torch.Tensor, item_factors: torch.Tensor) -> BilinearForm:
    """Order by the dot product alone."""
    return BilinearForm(Side(user_factors), Side(item_factors))


def make_ordering(kind: str, items: int, factors: int, seed: int, step: float) -> BilinearForm:
    """Tables of multiples of `step`: large ones tie often, small ones by a few units in the last place."""
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray((rng.normal(0, 1, shape) / max(step, 1e-9)).round(), np.float32)) * step

    if kind == "popularity":
        return by_popularity(torch.from_numpy(rng.integers(0, 5, items).astype(np.int32)))
    user_factors, item_factors = table(USERS + 1, factors), table(items + 1, factors)
    if kind == "factors":
        return by_factors(user_factors, item_factors)
    tables = (table(), user_factors, item_factors, table(USERS + 1), table(items + 1))
    variances = (table().abs(), table(USERS + 1).abs(), table(items + 1).abs())
    model = MatrixFactorization(*tables, *variances)
    return by_rating(model) if kind == "rating" else by_lower_bound(model)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An ordering, users, N, the items each leaves out with repetitions, and a mask of items."""
    items = draw(st.integers(1, 150))
    step = draw(st.sampled_from([0.0, 1e-7, 0.001, 1.0]))
    ordering = make_ordering(
        draw(st.sampled_from(KINDS)), items, draw(st.integers(0, 9)), draw(st.integers(0, 2**32)), step
    )
    users = draw(st.lists(st.integers(0, USERS), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    excluded = [rng.integers(items, size=draw(st.sampled_from([0, 1, items // 2, 5 * items]))).tolist() for _ in users]
    share = draw(st.sampled_from([None, 0.0, 0.1, 0.6, 1.0]))
    return ordering, users, draw(st.integers(1, items + 3)), excluded, _mask(rng, items, share)


def _mask(rng: np.random.Generator, items: int, share: float | None) -> list[bool] | None:
    return None if share is None else (rng.random(items) < share).tolist()


def by_sorting(ordering: BilinearForm, user: int, n: int, excluded: list[int], allowed: list[bool] | None) -> list[int]:
    items_I = torch.arange(ordering.item_count)
    scores = ordering.exact(torch.full_like(items_I, user), items_I).tolist()
    free = sorted(set(range(ordering.item_count)) - set(excluded))
    candidates = [item for item in free if allowed is None or allowed[item]]
    best = sorted(candidates, key=lambda item: (-scores[item], item))[:n]
    return best + [NOTHING] * (n - len(best))


def all_scores(form: BilinearForm, users: Iterable[int]) -> torch.Tensor:
    """The score of every known item for each user, shape (B, I)."""
    items_I = torch.arange(form.item_count, device=form.device)
    return torch.stack([form.exact(torch.full_like(items_I, user), items_I) for user in users])


def rows_of(lists: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in lists])])
    return torch.from_numpy(offsets), torch.tensor([item for part in lists for item in part], dtype=torch.int32)
