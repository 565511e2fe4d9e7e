"""Divides ratings into training and test rows. Published figures depend on these definitions: they do not vary.

Shapes: N ratings, U users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from models.did_you_mean import did_you_mean
from training.constants import SPLITS
from training.data.interactions import Int64s, Interactions
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
    """`last-out`, `random:F`, `time:F` or `none`.

    Raises:
        ConfigError: anything else.
    """
    name, colon, fraction = text.partition(":")
    for kind in get_args(Kind):
        if name == kind and bool(colon) == (kind in WITH_FRACTION):
            return Split(kind, _parse_fraction(text, fraction) if colon else None)
    if name in WITH_FRACTION:
        raise ConfigError(f"--split {text}: needs the part to hold out, as in {name}:0.1")
    raise ConfigError(f"--split {text}: not one of {', '.join(SPLITS)}{did_you_mean(name, get_args(Kind))}")


def _parse_fraction(text: str, fraction: str) -> Fraction:
    try:
        value = Fraction(fraction)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value < 1:
        raise ConfigError(f"--split {text}: F must be a number between 0 and 1, as in {text.partition(':')[0]}:0.1")
    return value


def split(interactions: Interactions, kind: Split, rng: np.random.Generator) -> tuple[Int64s, Int64s]:
    """Rows to train on and rows to test on, each in file order; together they are all rows.

    - last-out: the test is each user's latest rating, the first in file order among ties. The only rating of a user is
      their latest, so that user has none left to train on.
    - random: the test is the last ⌈F·N⌉ of `rng.permutation(N)`.
    - time: the test is the last ⌈F·N⌉ rows by timestamp, ties in file order.
    - none: the test is empty.

    Raises:
        ConfigError: timestamps are needed and missing, or nothing would be left to train on.
    """
    rows = len(interactions)
    if kind.kind == "none":
        test = np.empty(0, np.int64)
    elif kind.kind == "last-out":
        test = _latest_rows(interactions)
    elif kind.kind == "random":
        test = rng.permutation(rows)[rows - _test_size(kind, rows) :]
    else:
        test = np.argsort(_timestamps(interactions, kind), kind="stable")[rows - _test_size(kind, rows) :]
    in_test_N = np.zeros(rows, bool)
    in_test_N[test] = True
    if in_test_N.all():
        raise ConfigError(f"--split {kind}: no rating of {rows} is left to train on")
    return np.flatnonzero(~in_test_N), np.flatnonzero(in_test_N)


def _test_size(kind: Split, rows: int) -> int:
    return math.ceil((kind.fraction or 0) * rows)


def _timestamps(interactions: Interactions, kind: Split) -> Int64s:
    if interactions.timestamps_N is None:
        raise ConfigError(f"--split {kind}: the ratings have no timestamps")
    return interactions.timestamps_N


def _latest_rows(interactions: Interactions) -> Int64s:
    times_N = _timestamps(interactions, Split("last-out"))
    latest_U = np.full(interactions.users, np.iinfo(np.int64).min)
    np.maximum.at(latest_U, interactions.users_N, times_N)
    candidates = np.flatnonzero(times_N == latest_U[interactions.users_N])
    _, first = np.unique(interactions.users_N[candidates], return_index=True)
    return candidates[first]
