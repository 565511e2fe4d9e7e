"""Lists of items for users: which rows are left out, what orders them, and what is shown of them.

Shapes: B users of one batch, I items, M excluded items, C candidates, N list length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from app.engine.folding import FoldedUser
from app.engine.serving_model import Ratings, Rows, ServingModel
from app.engine.types import Interval, ItemFilter, ListQuery, ListSource, RankBy, RankedItem, TopList
from models.block_search import NOTHING
from models.mf import around
from models.scoring import LOWER_BOUND_DEVIATIONS
from models.search import top_of_one
from models.sharding import Sharded

RECENT_LENGTH = 50  # longer lists are not kept: one of ten takes 1.5 kB


class ListUser(NamedTuple):
    """Whom a list is for: a row of the model, or one that was folded in."""

    row: int
    folded: FoldedUser | None


def is_worth_keeping(query: ListQuery) -> bool:
    """Whether a list is likely to be asked for again: a short one without filters."""
    if query.category is not None or query.year_min is not None or query.year_max is not None:
        return False
    return query.n <= RECENT_LENGTH and query.only is None and not query.exclude


def top_list(model: ServingModel, query: ListQuery, folded: FoldedUser | None = None) -> TopList:
    """The list of one query; `folded` is the user's row where that is not the model's.

    An unknown user is shown what has the most training ratings.
    """
    user = _list_user(model, query, folded)
    if query.only is not None:
        rows_N = _top_among(model, query, user)
    elif model.scorer.on_cpu:
        allowed, (ordering, row) = model.allowed(query.filter), _ordering(model, query, user)
        allowed_I = None if allowed is None else allowed.mask_I
        excluded_M = _excluded(model, query, user)
        rows_N, _ = top_of_one(ordering.only, row, query.n, excluded_M, allowed_I)
    else:
        (rows_N,) = _top_rows(model, [query], [user])
    return _shown(model, query, user, rows_N)


def top_lists(model: ServingModel, queries: Sequence[ListQuery], folded: Sequence[FoldedUser | None]) -> list[TopList]:
    """The list of each query, in that order. Those that one matrix product can answer are answered by one."""
    if len(queries) == 1:
        return [top_list(model, queries[0], folded[0])]
    users = [_list_user(model, query, own) for query, own in zip(queries, folded, strict=True)]
    answers: dict[int, TopList] = {}
    together: dict[tuple[RankBy | ListSource, ItemFilter], list[int]] = defaultdict(list)
    for position, (query, user) in enumerate(zip(queries, users, strict=True)):
        if query.only is not None or (user.folded is not None and user.folded.is_known):
            answers[position] = top_list(model, query, user.folded)
        else:
            order = model.order(query.rank_by) if _is_known(model, user) else ListSource.POPULAR
            together[order, query.filter].append(position)
    for positions in together.values():
        lists = _top_rows(model, [queries[position] for position in positions], [users[at] for at in positions])
        for position, rows_N in zip(positions, lists, strict=True):
            answers[position] = _shown(model, queries[position], users[position], rows_N)
    return [answers[position] for position in range(len(queries))]


def _list_user(model: ServingModel, query: ListQuery, folded: FoldedUser | None) -> ListUser:
    row = len(model.users) if query.user is None or folded is not None else model.users.row(query.user)
    return ListUser(row, folded)


def _is_known(model: ServingModel, user: ListUser) -> bool:
    return user.row < len(model.users) if user.folded is None else user.folded.is_known


def _ordering(model: ServingModel, query: ListQuery, user: ListUser) -> tuple[Sharded, int]:
    """What puts items in order for a user, and the row that they have in it."""
    if not _is_known(model, user):
        return model.popularity, user.row
    return _in_order(model, model.order(query.rank_by), user)


def _in_order(model: ServingModel, order: RankBy, user: ListUser) -> tuple[Sharded, int]:
    """An order of the model, and the row that a user has in it."""
    ordering, folded = model.orderings[order], user.folded
    if folded is None:
        return ordering, user.row
    factors_G = folded.head_G if order is RankBy.RELEVANCE else folded.factors_F
    return ordering.of_user((factors_G, folded.bias, folded.variance)), 0


def _top_rows(model: ServingModel, queries: Sequence[ListQuery], users: Sequence[ListUser]) -> list[Rows]:
    """The rows of each list; the queries share their order and their filter. A folded user comes alone."""
    excluded = [_excluded(model, query, user) for query, user in zip(queries, users, strict=True)]
    offsets = np.zeros(len(queries) + 1, dtype=np.int64)
    np.cumsum([len(rows_M) for rows_M in excluded], out=offsets[1:])
    allowed = model.allowed(queries[0].filter)
    ordering, first = _ordering(model, queries[0], users[0])
    top_BN = ordering.top_items(
        torch.tensor([first, *(user.row for user in users[1:])]),
        max(query.n for query in queries),
        excluded=(torch.from_numpy(offsets), torch.from_numpy(np.concatenate(excluded))),
        allowed=None if allowed is None else allowed.parts,
    )
    return [rows_N[rows_N != NOTHING][: query.n] for rows_N, query in zip(top_BN.numpy(), queries, strict=True)]


def _excluded(model: ServingModel, query: ListQuery, user: ListUser) -> npt.NDArray[np.int32]:
    rated_M = np.empty(0, np.int32)
    if query.exclude_seen:
        rated_M = model.training_ratings(user.row)[0] if user.folded is None else user.folded.rated_M
    if not query.exclude:
        return rated_M
    return np.concatenate([rated_M, _known_rows(model, query.exclude).astype(np.int32)])


def _known_rows(model: ServingModel, ids: Sequence[str]) -> Rows:
    rows_C = model.items.rows(ids)
    return np.unique(rows_C[rows_C < len(model.items)])


def _top_among(model: ServingModel, query: ListQuery, user: ListUser) -> Rows:
    """The rows of a list whose query names the items to choose from: only these are scored."""
    rows_C = _known_rows(model, query.only or ())
    rows_C = rows_C[~np.isin(rows_C, _excluded(model, query, user))]
    allowed = model.allowed(query.filter)
    if allowed is not None:
        rows_C = rows_C[allowed.mask_I[rows_C]]
    ordering, row = _ordering(model, query, user)
    rows_N: Rows = ordering.top_among(row, torch.from_numpy(rows_C), query.n).cpu().numpy()
    return rows_N


def _shown(model: ServingModel, query: ListQuery, user: ListUser, rows_N: Rows) -> TopList:
    """The list as answered: whatever ordered it, the rating of each item is the one that a prediction gives."""
    folded = user.folded
    if folded is None:
        ratings_N = model.scorer.predict(user.row, rows_N)
    else:
        ratings_N = model.scorer.predict_folded(folded.factors_F, folded.bias, rows_N)
    source = ListSource.MODEL if folded is None else ListSource.FOLD_IN
    titles = map(model.catalogue.title, rows_N.tolist())
    return TopList(
        user=query.user,
        source=source if _is_known(model, user) else ListSource.POPULAR,
        rank_by=model.order(query.rank_by),
        items=[
            RankedItem(id_, rating, title, year)
            for (id_, title, year), rating in zip(titles, ratings_N.tolist(), strict=True)
        ],
        version=model.version,
        intervals=_intervals(model, user, rows_N) if query.intervals else None,
    )


def _intervals(model: ServingModel, user: ListUser, rows_N: Rows) -> list[Interval]:
    """Where the user's own rating of each item lies with 90 %, clipped to the scale."""
    own = model.checkpoint.model
    if own.noise_variance is None or own.interval_deviations is None:
        return [Interval(None, None)] * len(rows_N)
    middle_N, low_N = (_exact(model, order, user, rows_N) for order in (RankBy.RATING, RankBy.LOWER_BOUND))
    of_rows_N = ((middle_N - low_N) / LOWER_BOUND_DEVIATIONS) ** 2
    noise, deviations = float(own.noise_variance), own.interval_deviations.tolist()
    ends = (end_N.clip(*model.scorer.scale).tolist() for end_N in around(middle_N, noise + of_rows_N, deviations))
    return [Interval(*pair) for pair in zip(*ends, strict=True)]


def _exact(model: ServingModel, order: RankBy, user: ListUser, rows_N: Rows) -> Ratings:
    ordering, row = _in_order(model, order, user)
    items_N = torch.from_numpy(rows_N).to(ordering.device)
    scores_N: Ratings = ordering.exact(torch.full_like(items_N, row), items_N).cpu().numpy()
    return scores_N
