"""Lists of items for users: which rows are left out, what orders them, and what is shown of them.

Shapes: B users of one batch, I items, M excluded items, C candidates, N list length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from app.engine.answers import ListQuery, ListSource, RankBy, RankedItem, TopList
from app.engine.store import Served
from models.ranking import NOTHING, Ordering, top_among, top_items, top_of_one

RECENT_LENGTH = 50  # longer lists are not kept: one of ten takes 1.5 kB

Rows = npt.NDArray[np.int64]


class RecentLists:
    """The lists of one model that were asked for last: a model does not change, nor do its lists. For one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lists: dict[ListQuery, TopList] = {}

    def get(self, query: ListQuery) -> TopList | None:
        """The list of a query that was kept, else None."""
        return self._lists.get(query) if _is_plain(query) else None

    def put(self, query: ListQuery, answer: TopList) -> None:
        """Keep a list, if it is a short one without filters; the one kept longest goes for it."""
        if self._most == 0 or not _is_plain(query):
            return
        if len(self._lists) >= self._most:
            del self._lists[next(iter(self._lists))]
        self._lists[query] = answer


def _is_plain(query: ListQuery) -> bool:
    return query.n <= RECENT_LENGTH and query.only is None and query.category is None and not query.exclude


def top_list(served: Served, query: ListQuery) -> TopList:
    """The list of one query. An unknown user is shown what has the most training ratings."""
    user = served.checkpoint.users.row(query.user)
    if query.only is not None:
        return _among(served, query, user)
    if not served.scorer.on_cpu:
        return _shown(served, query, user, _top_rows(served, [query], [user])[0])
    allowed_I = None if query.category is None else served.category(query.category).numpy()
    excluded_M, ordering = _excluded(served, query, user), _ordering(served, query, user)
    rows_N = top_of_one(ordering, user, query.n, excluded_M=excluded_M, allowed_I=allowed_I)
    return _shown(served, query, user, rows_N)


def top_lists(served: Served, queries: Sequence[ListQuery]) -> list[TopList]:
    """The list of each query, in that order. Those that one matrix product can answer are answered by one."""
    if len(queries) == 1:
        return [top_list(served, queries[0])]
    users = [served.checkpoint.users.row(query.user) for query in queries]
    answers: dict[int, TopList] = {}
    together: dict[tuple[RankBy | ListSource, str | None], list[int]] = defaultdict(list)
    for position, (query, user) in enumerate(zip(queries, users, strict=True)):
        if query.only is not None:
            answers[position] = _among(served, query, user)
        else:
            order = served.rank_by(query.rank_by) if _known(served, user) else ListSource.POPULAR
            together[order, query.category].append(position)
    for positions in together.values():
        batch = [queries[position] for position in positions]
        items = _top_rows(served, batch, [users[position] for position in positions])
        for position, rows_N in zip(positions, items, strict=True):
            answers[position] = _shown(served, queries[position], users[position], rows_N)
    return [answers[position] for position in range(len(queries))]


def _known(served: Served, user: int) -> bool:
    return user < len(served.checkpoint.users)


def _ordering(served: Served, query: ListQuery, user: int) -> Ordering:
    return served.orderings[served.rank_by(query.rank_by)] if _known(served, user) else served.popularity


def _top_rows(served: Served, queries: Sequence[ListQuery], users: Sequence[int]) -> list[Rows]:
    """The rows of each list; the queries share their order and their category."""
    excluded = [_excluded(served, query, user) for query, user in zip(queries, users, strict=True)]
    offsets = np.zeros(len(queries) + 1, dtype=np.int64)
    np.cumsum([len(rows_M) for rows_M in excluded], out=offsets[1:])
    device = served.scorer.model.device
    category = queries[0].category
    top_BN = top_items(
        _ordering(served, queries[0], users[0]),
        torch.tensor(users, device=device),
        max(query.n for query in queries),
        excluded=(torch.from_numpy(offsets).to(device), torch.from_numpy(np.concatenate(excluded)).to(device)),
        allowed_I=None if category is None else served.category(category),
    )
    return [rows_N[rows_N != NOTHING][: query.n] for rows_N, query in zip(top_BN.cpu().numpy(), queries, strict=True)]


def _excluded(served: Served, query: ListQuery, user: int) -> npt.NDArray[np.int32]:
    seen_M = served.seen(user) if query.exclude_seen else np.empty(0, np.int32)
    if not query.exclude:
        return seen_M
    return np.concatenate([seen_M, _known_rows(served, query.exclude).astype(np.int32)])


def _known_rows(served: Served, ids: Sequence[str]) -> Rows:
    rows_C = served.checkpoint.items.rows(ids)
    return np.unique(rows_C[rows_C < len(served.checkpoint.items)])


def _among(served: Served, query: ListQuery, user: int) -> TopList:
    """The list of a query that names the items to choose from: only their rows are scored."""
    rows_C = _known_rows(served, query.only or ())
    rows_C = rows_C[~np.isin(rows_C, _excluded(served, query, user))]
    candidates_C = torch.from_numpy(rows_C).to(served.scorer.model.device)
    if query.category is not None:
        candidates_C = candidates_C[served.category(query.category)[candidates_C]]
    top_N = top_among(_ordering(served, query, user), user, candidates_C, query.n)
    return _shown(served, query, user, top_N.cpu().numpy())


def _shown(served: Served, query: ListQuery, user: int, rows_N: Rows) -> TopList:
    """The list as answered: whatever ordered it, the rating of each item is the one that a prediction gives."""
    ratings_N = served.scorer.predict_row(user, rows_N)
    return TopList(
        user=query.user,
        source=ListSource.MODEL if _known(served, user) else ListSource.POPULAR,
        rank_by=served.rank_by(query.rank_by),
        items=[
            RankedItem(id_, rating, title, year)
            for (id_, title, year), rating in zip(map(served.title, rows_N.tolist()), ratings_N.tolist(), strict=True)
        ],
        version=served.version,
    )
