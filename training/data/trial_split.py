"""Which training ratings a trial holds out, where that is to follow the rule of the test part: by time.

What is learned from them then holds for the test part too. Shapes: N ratings, U users.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from training.communicator import SINGLE_PROCESS, Communicator
from training.data.columns import Bools
from training.data.interactions import Int32s, Int64s, Interactions
from training.data.split import Split, held_out

MOST = Fraction(1, 10)  # of the ratings
OF_USERS = 0.05  # about this share of the ratings, the latest of each user


def trial_rows(ratings: Interactions, kind: Split, communicator: Communicator = SINGLE_PROCESS) -> Bools | None:
    """The latest ratings of all for a split by time, of each user for last-out, bool (N,); None for any at random."""
    users_N, times_N = ratings.users_N, ratings.timestamps_N
    everywhere = communicator.smallest(float(times_N is not None))
    if kind.kind in ("none", "random") or times_N is None or not everywhere:
        return None
    if kind.kind == "last-out":
        total, users = communicator.total(len(ratings)), communicator.total(ratings.users)
        return latest_of_each(users_N, times_N, math.ceil(OF_USERS * total / max(users, 1)))
    counts = torch.zeros(communicator.size, dtype=torch.int64)
    counts[communicator.rank] = len(ratings)
    before = int(communicator.sum(counts)[: communicator.rank].sum())
    latest = Split("time", min(kind.fraction or MOST, MOST))
    return held_out(users_N, times_N, before + np.arange(len(ratings)), latest, np.random.default_rng(0), communicator)


def latest_of_each(users_N: Int32s, times_N: Int64s, most: int) -> Bools:
    """The latest ratings of each user, at most so many and at most half of them, rounded up; bool (N,)."""
    order_N = np.lexsort((-times_N, users_N))
    counts_U = np.bincount(users_N)
    place_N = np.arange(len(users_N)) - np.repeat(np.cumsum(counts_U) - counts_U, counts_U)
    chosen_N = np.zeros(len(users_N), bool)
    chosen_N[order_N] = place_N < np.repeat(np.minimum(most, (counts_U + 1) // 2), counts_U)
    return chosen_N
