"""A rank's share of ratings that every rank has read whole: some users with all their ratings.

Sources other than Parquet are read so; for Parquet `training.distributed.shuffle` never has all ratings on one rank.
Shapes: U users, N ratings.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.communicator import BLOCK, Communicator, Span
from training.data.interactions import Int64s, Interactions
from training.data.train_test import TrainTest

USER_COST = 25  # in ratings: solving a user takes as long as 50 of them, a user's rows as much memory as 10


def share(ratings: TrainTest, communicator: Communicator) -> TrainTest:
    """The ratings of a rank. Items keep their numbers; users are numbered from 0, and len(users) means none of them.

    Held-out ratings of users without training ratings are with the last rank.
    """
    rank, size, users = communicator.rank, communicator.size, ratings.train.users
    counts_U = np.bincount(ratings.train.users_N, minlength=users)
    span = Span(whole_blocks(cuts(counts_U, 0, Span.whole(work_of(counts_U)), size), users), rank)
    last = rank == size - 1
    train, test = _of(ratings.train, span, last=last), _of(ratings.test, span, last=last)
    return replace(ratings, train=train, test=test, communicator=communicator, users_here=span)


def work_of(counts_U: Int64s) -> int:
    """How much work users with so many ratings are."""
    return int((counts_U + USER_COST).sum())


def cuts(counts_U: Int64s, first: int, work: Span, ranks: int) -> Int64s:
    """Where to cut all users so that each rank has about equal work, (ranks - 1); 0 for cuts that are not among these.

    Args:
        counts_U: ratings of some users.
        first: the number of the first of them.
        work: their part of the work of all users.
    """
    targets = np.linspace(0, work.total, ranks + 1)[1:-1]
    inside = (targets > work.start) & (targets <= work.stop)
    positions = first + np.searchsorted(np.cumsum(counts_U + USER_COST), targets - work.start) + 1
    return np.where(inside, positions, 0)


def whole_blocks(cuts: Int64s, users: int) -> tuple[int, ...]:
    """The bounds of the ranks' users, cut between blocks."""
    return (0, *np.minimum(-(-cuts // BLOCK) * BLOCK, users).tolist(), users)


def _of(ratings: Interactions, span: Span, *, last: bool) -> Interactions:
    """The ratings of a span's users; with `last` also those of no user that is known."""
    users_N = ratings.users_N
    unknown_N = users_N == ratings.users
    rows = np.flatnonzero((users_N >= span.start) & (users_N < span.stop) | (unknown_N & last))
    taken = ratings.take(rows)
    here_N = np.where(taken.users_N == ratings.users, len(span), taken.users_N - span.start).astype(np.int32)
    return replace(taken, users_N=here_N, user_ids=ratings.user_ids[span.rows])
