"""Lists of items for users: which items are left out, how the others are ordered, and what a list shows of them.

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
from app.engine.scorer import Ratings, Rows
from app.engine.serving_model import ServingModel
from app.engine.types import (
    ItemFilter,
    ListOrder,
    ListQuery,
    ListSource,
    RankBy,
    RankedItem,
    TopList,
    interval_list,
    shortest,
)
from models.block_search import NOTHING
from models.diversity import CANDIDATES, diversified
from models.search import top_of_one
from models.sharding import Sharded

RECENT_LENGTH = 50  # longer lists are not kept: one of ten takes 1.5 kB


class ListUser(NamedTuple):
    """The user of a list: a row of the model, or one that was folded in."""

    row: int
    folded: FoldedUser | None


class Found(NamedTuple):
    """The items that were found for a list, best first, and the scores that ordered them."""

    rows_N: Rows
    scores_N: Ratings


def is_worth_keeping(query: ListQuery) -> bool:
    """Whether a list is likely to be asked for again: a short one without filters."""
    if query.filter != ItemFilter():
        return False
    return query.offset + query.n <= RECENT_LENGTH and query.only is None and not query.exclude


def top_list(
    model: ServingModel, query: ListQuery, folded: FoldedUser | None = None, named: NamedRows | None = None
) -> TopList:
    """The list of one query; `folded` is the user's row if it is not that of the model.

    The list of an unknown user has the items with the most training ratings.
    """
    user = _list_user(model, query, folded)
    named = named or NamedRows(model)
    if query.only is not None:
        found = _top_among(model, query, user, named)
    elif model.scorer.on_cpu:
        allowed, (ordering, row) = model.allowed(query.filter), _ordering(model, query, user)
        allowed_I, excluded_M = None, _excluded(model, query, user, named)
        if allowed is not None and allowed.others_M is None:
            allowed_I = allowed.mask_I
        elif allowed is not None:
            excluded_M = np.concatenate([excluded_M, allowed.others_M])
        found = Found(*top_of_one(ordering.only, row, query.depth, excluded_M, allowed_I))
    else:
        (found,) = _top_rows(model, [query], [user], named)
    return _shown(model, query, user, found)


def top_lists(model: ServingModel, queries: Sequence[ListQuery], folded: Sequence[FoldedUser | None]) -> list[TopList]:
    """The list of each query, in that order. Queries that can share a matrix product do."""
    if len(queries) == 1:
        return [top_list(model, queries[0], folded[0])]
    named = NamedRows(model)
    users = [_list_user(model, query, own) for query, own in zip(queries, folded, strict=True)]
    answers: dict[int, TopList] = {}
    together: dict[tuple[RankBy | ListSource, ItemFilter], list[int]] = defaultdict(list)
    for position, (query, user) in enumerate(zip(queries, users, strict=True)):
        if query.only is not None or (user.folded is not None and user.folded.is_known):
            answers[position] = top_list(model, query, user.folded, named)
        else:
            order = model.order(query.rank_by) if _is_known(model, user) else ListSource.POPULAR
            together[order, query.filter].append(position)
    for positions in together.values():
        chosen = [queries[at] for at in positions], [users[at] for at in positions]
        lists = _top_rows(model, *chosen, named)
        for position, found in zip(positions, lists, strict=True):
            answers[position] = _shown(model, queries[position], users[position], found)
    return [answers[position] for position in range(len(queries))]


def _list_user(model: ServingModel, query: ListQuery, folded: FoldedUser | None) -> ListUser:
    row = len(model.users) if query.user is None or folded is not None else model.users.row(query.user)
    return ListUser(row, folded)


def _is_known(model: ServingModel, user: ListUser) -> bool:
    return user.row < len(model.users) if user.folded is None else user.folded.is_known


def _ordering(model: ServingModel, query: ListQuery, user: ListUser) -> tuple[Sharded, int]:
    """The ordering of a query, and the user's row in it."""
    if not _is_known(model, user):
        return model.popularity, user.row
    return in_order(model, model.order(query.rank_by), user)


def in_order(model: ServingModel, order: RankBy, user: ListUser) -> tuple[Sharded, int]:
    """An ordering of the model, and the user's row in it."""
    ordering, folded = model.orderings[order], user.folded
    if folded is None:
        return ordering, user.row
    factors_G = folded.head_G if order is RankBy.RELEVANCE else folded.factors_F
    return ordering.of_user((factors_G, folded.bias, folded.variance)), 0


def _top_rows(
    model: ServingModel, queries: Sequence[ListQuery], users: Sequence[ListUser], named: NamedRows
) -> list[Found]:
    """The items of each list; the queries share their order and their filter. A folded user comes alone."""
    excluded = [_excluded(model, query, user, named) for query, user in zip(queries, users, strict=True)]
    offsets = np.zeros(len(queries) + 1, dtype=np.int64)
    np.cumsum([len(rows_M) for rows_M in excluded], out=offsets[1:])
    allowed = model.allowed(queries[0].filter)
    ordering, first = _ordering(model, queries[0], users[0])
    top_BN = ordering.top_items(
        torch.tensor(rows_B := [first, *(user.row for user in users[1:])]),
        max(query.depth for query in queries),
        excluded=(torch.from_numpy(offsets), torch.from_numpy(np.concatenate(excluded))),
        allowed=None if allowed is None else allowed.parts,
    )
    lists = [rows_N[rows_N != NOTHING][: query.depth] for rows_N, query in zip(top_BN.numpy(), queries, strict=True)]
    lengths = [len(rows_N) for rows_N in lists]
    scores_M = ordering.scores(np.repeat(rows_B, lengths), np.concatenate(lists))
    return [Found(*pair) for pair in zip(lists, np.split(scores_M, np.cumsum(lengths)[:-1]), strict=True)]


def _excluded(model: ServingModel, query: ListQuery, user: ListUser, named: NamedRows) -> npt.NDArray[np.int32]:
    rated_M = np.empty(0, np.int32)
    if query.exclude_seen:
        rated_M = model.training_ratings(user.row)[0] if user.folded is None else user.folded.rated_M
    if not query.exclude:
        return rated_M
    return np.concatenate([rated_M, named.of(query.exclude)])


class NamedRows:
    """The rows of the items that the filters of some queries name. The queries of one request share their filters."""

    def __init__(self, model: ServingModel) -> None:
        self._items = model.items
        self._rows: dict[int, npt.NDArray[np.int32]] = {}  # by the filter itself: to compare a long one takes long

    def of(self, ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """The distinct rows of those that the model has. The caller keeps the filter."""
        rows_C = self._rows.get(id(ids))
        if rows_C is None:
            found = self._items.rows(ids)
            rows_C = self._rows[id(ids)] = np.unique(found[found < len(self._items)]).astype(np.int32)
        return rows_C


def _top_among(model: ServingModel, query: ListQuery, user: ListUser, named: NamedRows) -> Found:
    """The items of a list whose query names the items to choose from: only these are scored."""
    rows_C = named.of(query.only or ()).astype(np.int64)
    rows_C = rows_C[~np.isin(rows_C, _excluded(model, query, user, named))]
    allowed = model.allowed(query.filter)
    if allowed is not None:
        rows_C = rows_C[allowed.mask_I[rows_C]]
    ordering, row = _ordering(model, query, user)
    rows_N: Rows = ordering.top_among(row, torch.from_numpy(rows_C), query.depth).cpu().numpy()
    return Found(rows_N, ordering.scores(row, rows_N))


def _page(model: ServingModel, query: ListQuery, found: Found) -> Found:
    """What is shown of what was found: the items from `offset` on, once the first are made unlike one another."""
    page = slice(query.offset, query.offset + query.n)
    if not query.diversity:
        return Found(found.rows_N[page], found.scores_N[page])
    first_C, scores_C = found.rows_N[:CANDIDATES], found.scores_N[:CANDIDATES]
    factors_CG = model.orderings[model.default_order].factors(first_C)
    order_N = diversified(scores_C, factors_CG, query.diversity, page.stop)
    order_N = np.concatenate([order_N, np.arange(len(first_C), len(found.rows_N))])[page]
    return Found(found.rows_N[order_N], found.scores_N[order_N])


def _shown(model: ServingModel, query: ListQuery, user: ListUser, found: Found) -> TopList:
    """The list as answered. The rating of each item is that of a prediction, whatever ordered the list."""
    folded, (rows_N, scores_N) = user.folded, _page(model, query, found)
    known = _is_known(model, user)
    if folded is None:
        ratings_N = model.scorer.predict(user.row, rows_N)
    else:
        ratings_N = model.scorer.predict_folded(folded.factors_F, folded.bias, rows_N)
    source = ListSource.MODEL if folded is None else ListSource.FOLD_IN
    titles = map(model.catalogue.title, rows_N.tolist())
    return TopList(
        user=query.user,
        source=source if known else ListSource.POPULAR,
        rank_by=ListOrder(model.order(query.rank_by)) if known else ListOrder.POPULAR,
        items=[
            RankedItem(id_, rating, score, title, year)
            for (id_, title, year), rating, score in zip(titles, shortest(ratings_N), shortest(scores_N), strict=True)
        ],
        version=model.version,
        intervals=interval_list(_intervals(model, user, rows_N)) if query.intervals else None,
    )


def _intervals(model: ServingModel, user: ListUser, rows_N: Rows) -> Ratings:
    folded = user.folded
    if folded is None:
        return model.intervals.of_users(user.row, rows_N)
    return model.intervals.of_folded(folded.factors_F, folded.bias, folded.variance, rows_N)
