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

from app.engine.fresh_users import FoldedUser
from app.engine.serving_model import Chosen, Served
from app.engine.types import Choice, Interval, ListQuery, ListSource, RankBy, RankedItem, TopList
from models.list_keys import NOTHING
from models.search import top_among, top_of_one
from models.sharding import Sharded

RECENT_LENGTH = 50  # longer lists are not kept: one of ten takes 1.5 kB

ANY = Choice()

Rows = npt.NDArray[np.int64]


class Who(NamedTuple):
    """Whom a list is for: a row of the model, or one that was folded in."""

    row: int
    person: FoldedUser | None


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
    if query.category is not None or query.year_min is not None or query.year_max is not None:
        return False
    return query.n <= RECENT_LENGTH and query.only is None and not query.exclude


def top_list(served: Served, query: ListQuery, person: FoldedUser | None = None) -> TopList:
    """The list of one query; `person` is the user's row where that is not the model's.

    An unknown user is shown what has the most training ratings.
    """
    who = _who(served, query, person)
    if query.only is not None:
        return _among(served, query, who)
    if not served.scorer.on_cpu:
        return _shown(served, query, who, _top_rows(served, [query], [who])[0])
    allowed, (ordering, row) = chosen(served, query.choice), _ordering(served, query, who)
    rows_N = top_of_one(
        ordering.only,
        row,
        query.n,
        excluded_M=_excluded(served, query, who),
        allowed_I=None if allowed is None else allowed.mask_I,
    )
    return _shown(served, query, who, rows_N)


def top_lists(served: Served, queries: Sequence[ListQuery], people: Sequence[FoldedUser | None]) -> list[TopList]:
    """The list of each query, in that order. Those that one matrix product can answer are answered by one."""
    if len(queries) == 1:
        return [top_list(served, queries[0], people[0])]
    whom = [_who(served, query, person) for query, person in zip(queries, people, strict=True)]
    answers: dict[int, TopList] = {}
    together: dict[tuple[RankBy | ListSource, Choice], list[int]] = defaultdict(list)
    for position, (query, who) in enumerate(zip(queries, whom, strict=True)):
        if query.only is not None or (who.person is not None and who.person.is_known):
            answers[position] = top_list(served, query, who.person)
        else:
            order = served.rank_by(query.rank_by) if _is_known(served, who) else ListSource.POPULAR
            together[order, query.choice].append(position)
    for positions in together.values():
        batch = [queries[position] for position in positions]
        items = _top_rows(served, batch, [whom[position] for position in positions])
        for position, rows_N in zip(positions, items, strict=True):
            answers[position] = _shown(served, queries[position], whom[position], rows_N)
    return [answers[position] for position in range(len(queries))]


def _who(served: Served, query: ListQuery, person: FoldedUser | None) -> Who:
    users = served.checkpoint.users
    row = len(users) if query.user is None or person is not None else users.row(query.user)
    return Who(row, person)


def _is_known(served: Served, who: Who) -> bool:
    return who.row < len(served.checkpoint.users) if who.person is None else who.person.is_known


def _ordering(served: Served, query: ListQuery, who: Who) -> tuple[Sharded, int]:
    """What puts items in order for somebody, and the row that they have in it."""
    if not _is_known(served, who):
        return served.popularity, who.row
    return _in_order(served, served.rank_by(query.rank_by), who)


def _in_order(served: Served, order: RankBy, who: Who) -> tuple[Sharded, int]:
    """An order of the model, and the row that somebody has in it."""
    ordering, person = served.orderings[order], who.person
    if person is None:
        return ordering, who.row
    factors_G = person.head_G if order is RankBy.RELEVANCE else person.factors_F
    variance = None if person.variance is None else float(person.variance)
    factors = None if factors_G is None else torch.from_numpy(factors_G)
    return ordering.of_user(factors, float(person.bias), variance), 0


def _top_rows(served: Served, queries: Sequence[ListQuery], whom: Sequence[Who]) -> list[Rows]:
    """The rows of each list; the queries share their order and their choice of items. Somebody folded in is alone."""
    excluded = [_excluded(served, query, who) for query, who in zip(queries, whom, strict=True)]
    offsets = np.zeros(len(queries) + 1, dtype=np.int64)
    np.cumsum([len(rows_M) for rows_M in excluded], out=offsets[1:])
    allowed = chosen(served, queries[0].choice)
    ordering, first = _ordering(served, queries[0], whom[0])
    top_BN = ordering.top_items(
        torch.tensor([first, *(who.row for who in whom[1:])]),
        max(query.n for query in queries),
        excluded=(torch.from_numpy(offsets), torch.from_numpy(np.concatenate(excluded))),
        allowed=None if allowed is None else allowed.parts,
    )
    return [rows_N[rows_N != NOTHING][: query.n] for rows_N, query in zip(top_BN.numpy(), queries, strict=True)]


def _excluded(served: Served, query: ListQuery, who: Who) -> npt.NDArray[np.int32]:
    seen_M = np.empty(0, np.int32)
    if query.exclude_seen:
        seen_M = served.seen(who.row) if who.person is None else who.person.rated_M
    if not query.exclude:
        return seen_M
    return np.concatenate([seen_M, _known_rows(served, query.exclude).astype(np.int32)])


def _known_rows(served: Served, ids: Sequence[str]) -> Rows:
    rows_C = served.checkpoint.items.rows(ids)
    return np.unique(rows_C[rows_C < len(served.checkpoint.items)])


def _among(served: Served, query: ListQuery, who: Who) -> TopList:
    """The list of a query that names the items to choose from: only their rows are scored."""
    rows_C = _known_rows(served, query.only or ())
    rows_C = rows_C[~np.isin(rows_C, _excluded(served, query, who))]
    allowed = chosen(served, query.choice)
    if allowed is not None:
        rows_C = rows_C[allowed.mask_I[rows_C]]
    top_N = top_among(*_ordering(served, query, who), torch.from_numpy(rows_C), query.n)
    return _shown(served, query, who, top_N.cpu().numpy())


def _shown(served: Served, query: ListQuery, who: Who, rows_N: Rows) -> TopList:
    """The list as answered: whatever ordered it, the rating of each item is the one that a prediction gives."""
    person = who.person
    if person is None:
        ratings_N = served.scorer.predict(who.row, rows_N)
    else:
        ratings_N = served.scorer.predict_folded(person.factors_F, person.bias, rows_N)
    known = ListSource.MODEL if person is None else ListSource.FOLD_IN
    return TopList(
        user=query.user,
        source=known if _is_known(served, who) else ListSource.POPULAR,
        rank_by=served.rank_by(query.rank_by),
        items=[
            RankedItem(id_, rating, title, year)
            for (id_, title, year), rating in zip(map(served.title, rows_N.tolist()), ratings_N.tolist(), strict=True)
        ],
        version=served.version,
        intervals=_intervals(served, who, rows_N) if query.intervals else None,
    )


def _intervals(served: Served, who: Who, rows_N: Rows) -> list[Interval]:
    """How sure the model is of each rating: the lower ends are those that `lower_bound` orders by, but clipped."""
    if RankBy.LOWER_BOUND not in served.orderings:
        return [Interval(None, None)] * len(rows_N)
    middle_N, low_N = (_exact(served, order, who, rows_N) for order in (RankBy.RATING, RankBy.LOWER_BOUND))
    ends = (end_N.clip(*served.scorer.scale).tolist() for end_N in (low_N, 2 * middle_N - low_N))
    return [Interval(*pair) for pair in zip(*ends, strict=True)]


def _exact(served: Served, order: RankBy, who: Who, rows_N: Rows) -> npt.NDArray[np.float32]:
    ordering, row = _in_order(served, order, who)
    items_N = torch.from_numpy(rows_N).to(ordering.device)
    scores_N: npt.NDArray[np.float32] = ordering.exact(torch.full_like(items_N, row), items_N).cpu().numpy()
    return scores_N


def chosen(served: Served, choice: Choice) -> Chosen | None:
    """The items of a choice; None for all."""
    return None if choice == ANY else served.chosen(choice)
