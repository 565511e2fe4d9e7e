"""Which training ratings are held out to choose settings by: those that the job names, or a tenth at random.

The random choice depends on user, item and seed alone, not on the number of ranks.

Shapes: N training ratings.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from training.fit.trainer import TrainingSet

SHARE = 0.1
MOST = 100_000  # held-out ratings: more tell nothing new of errors
# Of SplitMix64 (Steele, Lea and Flood 2014), as signed numbers
FIRST, SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def inner_split(data: TrainingSet, seed: int, *, bounded: bool = True) -> tuple[TrainingSet, Tensor]:
    """The training set without the ratings that are held out, and which those are, bool (N,).

    `seed` has 63 bits. If the choice is `bounded`, about `MOST` ratings are held out of many.
    """
    held_out_N = held_out_rows(data, seed, bounded=bounded)
    everything = None if data.everything is None else inner_split(data.everything, seed, bounded=bounded)[0]
    return replace(part(data, ~held_out_N), everything=everything), held_out_N


def held_out_rows(data: TrainingSet, seed: int, *, bounded: bool = True) -> Tensor:
    """Which ratings `inner_split` holds out, bool (N,)."""
    if data.trial_N is not None:
        return data.trial_N
    return _uniform(data, seed) < (min(SHARE, MOST / max(data.total(), 1)) if bounded else SHARE)


def part(data: TrainingSet, mask_N: Tensor) -> TrainingSet:
    """Some of the ratings, of the same users and items."""
    names = ("users_N", "items_N", "ratings_N", *(() if data.weights_N is None else ("weights_N",)))
    columns = {name: getattr(data, name)[mask_N] for name in names}
    return replace(data, **columns, trial_N=None, everything=None)


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
