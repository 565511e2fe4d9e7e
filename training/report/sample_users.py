"""Three users with their highest ratings and the recommendations that the model makes for them.

Shapes: U users, N list length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from models.block_search import NOTHING
from models.orderings import default_order, orderings
from models.search import top_items
from training.report.distributions import Ints
from training.results import Result

LIST_LENGTH = 10
HIGHEST = 10
KINDS = (("A light rater", 0.05), ("A median rater", 0.5), ("A heavy rater", 0.95))  # quantiles of their activity


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An item of a list, named by title and year, or by its id without a title.

    Attributes:
        rating: r̂, clipped to the scale.
        interval: the central 90 % interval of the rating, clipped; None where the model does not know it.
        held_out: the rating of the user in the test part, None if there is none.
    """

    item: str
    rating: float
    interval: tuple[float, float] | None
    held_out: float | None


@dataclass(frozen=True, slots=True)
class SampleUser:
    """A user: the number and the mean of their training ratings, the highest of them, and recommendations."""

    kind: str
    id: str
    ratings: int
    mean: float
    highest: Sequence[tuple[str, float]]
    recommendations: Sequence[Recommendation]

    @property
    def has_held_out(self) -> bool:
        """Whether any item of the list is in the test part."""
        return any(item.held_out is not None for item in self.recommendations)


def sample(result: Result) -> list[SampleUser]:
    """A light, a median and a heavy rater; fewer where fewer users have ratings."""
    counts_U = np.bincount(result.train_test.train.users_N, minlength=result.train_test.train.users)
    order_U = np.lexsort((np.arange(len(counts_U)), counts_U))
    order_U = order_U[counts_U[order_U] > 0]
    chosen: dict[int, str] = {}
    for kind, share in KINDS if len(order_U) >= len(KINDS) else [("A rater", 0.0)]:
        chosen.setdefault(int(order_U[round(share * (len(order_U) - 1))]), kind)
    return [_sample_user(result, user, kind) for user, kind in chosen.items()]


@torch.inference_mode()
def _sample_user(result: Result, user: int, kind: str) -> SampleUser:
    train = result.train_test.train
    begin, end = result.seen.offsets[user : user + 2].tolist()
    items_N, ratings_N = (of_all[begin:end].cpu().numpy() for of_all in (result.seen.items_N, result.seen.ratings_N))
    popularity_N = np.bincount(train.items_N, minlength=train.items)[items_N]
    highest_N = np.lexsort((items_N, -popularity_N, -ratings_N))[:HIGHEST]  # ties: the most rated items first
    named = orderings(result.fitted.model, result.fitted.head)
    ordering = named[default_order(named)]
    users_1 = torch.tensor([user], device=ordering.device)
    seen = result.seen.rows(users_1.to(result.seen.offsets.device))
    listed_N = top_items(ordering, users_1, LIST_LENGTH, excluded=seen)[0].cpu().numpy()
    return SampleUser(
        kind,
        train.user_ids[user].as_py(),
        end - begin,
        float(ratings_N.mean(dtype=np.float64)),
        list(zip(_labels(result, items_N[highest_N]), ratings_N[highest_N].tolist(), strict=True)),
        _recommendations(result, user, listed_N[listed_N != NOTHING]),
    )


def _recommendations(result: Result, user: int, items_N: Ints) -> list[Recommendation]:
    model, test, scale = result.fitted.model, result.train_test.test, result.train_test.scale
    places_N = torch.from_numpy(items_N).to(model.device)
    users_N = torch.full_like(places_N, user)
    ratings_N = model(users_N, places_N).cpu().numpy()
    found = model.intervals(users_N, places_N)
    intervals: list[tuple[float, float] | None] = [None] * len(items_N)
    if found is not None:
        ends = (end_N.cpu().numpy().clip(*scale).tolist() for end_N in found)
        intervals = list(zip(*ends, strict=True))
    rows = np.flatnonzero(test.users_N == user)
    rated = dict(zip(test.items_N[rows].tolist(), test.ratings_N[rows].tolist(), strict=True))
    held_out = [rated.get(item) for item in items_N.tolist()]
    return list(map(Recommendation, _labels(result, items_N), np.clip(ratings_N, *scale).tolist(), intervals, held_out))


def _labels(result: Result, rows_N: Ints) -> list[str]:
    ids = result.train_test.train.item_ids.take(pa.array(rows_N))
    if result.described is None:
        return list(ids.to_pylist())
    places = pc.index_in(ids, value_set=result.described["id"].combine_chunks())
    known = result.described.select(["title", "year"]).take(places).append_column("id", ids)
    return [_label(**item) for item in known.to_pylist()]


def _label(id: str, title: str | None, year: int | None) -> str:  # noqa: A002 - names of columns
    if not title:
        return id
    return title if year is None or f"({year})" in title else f"{title} ({year})"
