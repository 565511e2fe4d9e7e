"""A rank's share of ratings that every rank has read whole: some users with all that they have rated.

Sources other than partitioned Parquet are read so; `training.distributed.reading` never has all ratings on one rank.
Shapes: U users, N ratings.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.communicator import BLOCK, Communicator, Span
from training.data.interactions import Int64s, Interactions
from training.data.train_test import TrainTest

USER_COST = 25  # in ratings: solving a user takes as long as 50 of them, a user's rows as much memory as 10


def share(parts: TrainTest, ranks: Communicator) -> TrainTest:
    """The part of a rank. Items keep their numbers; users are numbered from 0, and len(users) means none of them.

    Held-out ratings of users without training ratings are with the last rank.
    """
    counts_U = np.bincount(parts.train.users_N, minlength=parts.train.users)
    span = Span(balanced_bounds(counts_U, ranks.size), ranks.rank)
    last = ranks.rank == ranks.size - 1
    train, test = _of(parts.train, span, last=last), _of(parts.test, span, last=last)
    return replace(parts, train=train, test=test, ranks=ranks, users_here=span)


def balanced_bounds(counts_U: Int64s, ranks: int) -> tuple[int, ...]:
    """Where to cut the users so that all ranks have about equal work, and whole blocks."""
    starts_U = np.append(0, np.cumsum(counts_U))
    work_U = starts_U + USER_COST * np.arange(len(starts_U))
    cuts = np.searchsorted(work_U, np.linspace(0, work_U[-1], ranks + 1))
    whole = np.minimum(-(-cuts // BLOCK) * BLOCK, len(counts_U))
    return tuple(int(cut) for cut in (0, *whole[1:-1], len(counts_U)))


def _of(ratings: Interactions, span: Span, *, last: bool) -> Interactions:
    """The ratings of a span's users; with `last` also those of no user that is known."""
    users_N = ratings.users_N
    unknown_N = users_N == ratings.users
    rows = np.flatnonzero((users_N >= span.start) & (users_N < span.stop) | (unknown_N & last))
    taken = ratings.take(rows)
    here_N = np.where(taken.users_N == ratings.users, len(span), taken.users_N - span.start).astype(np.int32)
    return replace(taken, users_N=here_N, user_ids=ratings.user_ids[span.rows])
