"""Which training ratings a trial holds out: those that the job names, or some at random.

The random choice depends on user and item alone, not on the number of ranks.

Shapes: N training ratings.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from training.fit.trainer import TrainingSet

SHARE = 0.1
MOST = 100_000  # held-out ratings: more would tell nothing new
# Of SplitMix64 (Steele, Lea and Flood 2014), as signed numbers
FIRST, SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def inner_split(data: TrainingSet, seed: int) -> tuple[TrainingSet, Tensor]:
    """The training set without the ratings that are held out, and which those are, bool (N,). `seed` has 63 bits."""
    held_out_N = data.trial_N
    if held_out_N is None:
        held_out_N = _uniform(data, seed) < min(SHARE, MOST / max(data.total(), 1))
    kept_N = ~held_out_N
    kept = (data.users_N[kept_N], data.items_N[kept_N], data.ratings_N[kept_N])
    return replace(data, users_N=kept[0], items_N=kept[1], ratings_N=kept[2], trial_N=None), held_out_N


def _uniform(data: TrainingSet, seed: int) -> Tensor:
    """A number in [0, 1) for each rating, float64."""
    users_N = data.users_N.long() + data.user_span.start
    hashed_N = users_N * data.items + data.items_N.long() + seed
    for shift, factor in ((30, FIRST), (27, SECOND)):
        hashed_N = (hashed_N ^ _right(hashed_N, shift)) * factor
    return _right(hashed_N ^ _right(hashed_N, 31), 11).double() / 2**53


def _right(values_N: Tensor, bits: int) -> Tensor:
    """A shift of unsigned numbers."""
    return (values_N >> bits) & ((1 << (64 - bits)) - 1)
