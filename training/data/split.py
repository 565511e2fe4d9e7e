"""Splits ratings into training and test rows. Published figures depend on these definitions: they do not vary.

One process splits all ratings; ranks that have the ratings of some users each hold out the same rows.
Shapes: N ratings, U users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import torch

from models.did_you_mean import did_you_mean
from training.communicator import SINGLE_PROCESS, Communicator
from training.constants import SPLITS
from training.data.columns import Bools
from training.data.interactions import Int32s, Int64s, Interactions
from training.errors import ConfigError

Kind = Literal["last-out", "random", "time", "none"]
WITH_FRACTION = ("random", "time")


@dataclass(frozen=True, slots=True)
class Split:
    """A kind of split, with the part of the ratings to test on (0 < fraction < 1) for those that take one.

    The fraction is exact, because ⌈F·n⌉ is not what it should be for most decimals in floating point.
    """

    kind: Kind
    fraction: Fraction | None = None

    def __str__(self) -> str:
        return self.kind if self.fraction is None else f"{self.kind}:{float(self.fraction):g}"


def parse_split(text: str) -> Split:
    """`last-out`, `random:F`, `time:F` or `none`. Raises ConfigError for anything else."""
    name, colon, fraction = text.partition(":")
    for kind in get_args(Kind):
        if name == kind and bool(colon) == (kind in WITH_FRACTION):
            return Split(kind, _parse_fraction(text, fraction) if colon else None)
    if name in WITH_FRACTION:
        raise ConfigError(f"--split {text}: add the share to hold out, as in {name}:0.1")
    raise ConfigError(f"--split {text}: not one of {', '.join(SPLITS)}{did_you_mean(name, get_args(Kind))}")


def _parse_fraction(text: str, fraction: str) -> Fraction:
    try:
        value = Fraction(fraction)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value < 1:
        raise ConfigError(f"--split {text}: F must be a number between 0 and 1, as in {text.partition(':')[0]}:0.1")
    return value


def split(ratings: Interactions, kind: Split, rng: np.random.Generator) -> tuple[Int64s, Int64s]:
    """Rows to train on and rows to test on, each in file order; together they are all rows. See `held_out`."""
    test_N = held_out(ratings.users_N, ratings.timestamps_N, np.arange(len(ratings)), kind, rng)
    return np.flatnonzero(~test_N), np.flatnonzero(test_N)


def folds(ratings: int, number: int, rng: np.random.Generator) -> list[Int64s]:
    """The rows of each test part of a cross-validation, in file order: every row is in one of them.

    They are the parts of `rng.permutation(ratings)` that `numpy.array_split` makes. Raises ConfigError for more folds
    than ratings.
    """
    if number > ratings:
        raise ConfigError(f"--folds {number}: there are only {ratings} ratings")
    return [np.sort(rows) for rows in np.array_split(rng.permutation(ratings), number)]


def held_out(
    users_N: Int32s | Int64s,
    timestamps_N: Int64s | None,
    rows_N: Int64s,
    kind: Split,
    rng: np.random.Generator,
    communicator: Communicator = SINGLE_PROCESS,
) -> Bools:
    """Which ratings are in the test part, bool (N,): of all, or of one rank, which has all of its users.

    `rows_N` is the row of each rating among those of all ranks, ascending.

    - last-out: the test is each user's latest rating, the first in file order among ties. The only rating of a user is
      their latest, so that user has none left to train on.
    - random: the test is the last ⌈F·N⌉ of `rng.permutation(N)`, N being that of all ranks.
    - time: the test is the last ⌈F·N⌉ rows by timestamp, ties in file order.
    - none: the test is empty.

    Raises ConfigError: timestamps are needed and missing, or nothing would be left to train on.
    """
    rows = communicator.total(len(rows_N))
    size = math.ceil((kind.fraction or 0) * rows)
    if kind.kind == "none":
        test_N = np.zeros(len(rows_N), bool)
    elif kind.kind == "random":
        in_test = np.zeros(rows, bool)
        in_test[rng.permutation(rows)[rows - size :]] = True
        test_N = in_test[rows_N]
    elif timestamps_N is None:
        raise ConfigError(f"--split {kind}: the ratings have no timestamps")
    elif kind.kind == "last-out":
        test_N = _latest(users_N, timestamps_N)
    else:
        test_N = _newest(timestamps_N, rows_N, size, communicator)
    if communicator.total(int((~test_N).sum())) == 0:
        raise ConfigError(f"--split {kind}: no rating of {rows} is left to train on")
    return test_N


def _latest(users_N: Int32s | Int64s, times_N: Int64s) -> Bools:
    """Each user's latest rating, the first among ties."""
    latest_U = np.full(users_N.max(initial=-1) + 1, np.iinfo(np.int64).min)
    np.maximum.at(latest_U, users_N, times_N)
    candidates = np.flatnonzero(times_N == latest_U[users_N])
    _, first = np.unique(users_N[candidates], return_index=True)
    latest_N = np.zeros(len(users_N), bool)
    latest_N[candidates[first]] = True
    return latest_N


def _newest(times_N: Int64s, rows_N: Int64s, size: int, communicator: Communicator) -> Bools:
    """The last `size` rows by time, ties by row."""
    cut = _largest_with(times_N, size, communicator)
    tied_N = times_N == cut
    newer_N = times_N > cut
    row = _largest_with(rows_N[tied_N], size - communicator.total(int(newer_N.sum())), communicator)
    test_N: Bools = newer_N | (tied_N & (rows_N >= row))
    return test_N


def _largest_with(values_N: Int64s, size: int, communicator: Communicator) -> int:
    """The largest number that at least `size` values of all ranks reach, by bisection."""
    low, negative_high = _least(values_N, communicator), _least(-values_N, communicator)
    high = -negative_high
    while low < high:
        middle = low + (high - low + 1) // 2
        if communicator.total(int((values_N >= middle).sum())) >= size:
            low = middle
        else:
            high = middle - 1
    return low


def _least(values_N: Int64s, communicator: Communicator) -> int:
    smallest = int(values_N.min()) if len(values_N) else np.iinfo(np.int64).max
    return int(communicator.least(torch.tensor(smallest)))
