"""The questions and answers of the engine, as plain values. Each answer names the version of the model it came from.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from models.diversity import CANDIDATES

Ids: TypeAlias = Sequence[str] | pa.ChunkedArray


class Source(StrEnum):
    """What a prediction was computed from."""

    MODEL = "model"
    FOLD_IN = "fold_in"
    ITEM_BIAS = "item_bias"
    USER_BIAS = "user_bias"
    GLOBAL_MEAN = "global_mean"


# Indexed by (is the user unknown) · 2 + (is the item unknown); then a known pair, of which a row was folded in.
SOURCES = (Source.MODEL, Source.USER_BIAS, Source.ITEM_BIAS, Source.GLOBAL_MEAN, Source.FOLD_IN)
FOLDED = SOURCES.index(Source.FOLD_IN)


class LiveSource(StrEnum):
    """What the predictions of a live error rest on; `unknown` where the user or the item is, `all` for all together."""

    MODEL = "model"
    FOLD_IN = "fold_in"
    UNKNOWN = "unknown"
    ALL = "all"


class ListSource(StrEnum):
    """What a list was computed from."""

    MODEL = "model"
    FOLD_IN = "fold_in"
    POPULAR = "popular"


class RankBy(StrEnum):
    """What orders a list."""

    RELEVANCE = "relevance"
    RATING = "rating"
    LOWER_BOUND = "lower_bound"


class ExplainedOrder(StrEnum):
    """What is explained: the expected rating, or the score of the relevance head."""

    RATING = "rating"
    RELEVANCE = "relevance"


class ListOrder(StrEnum):
    """The order that a list is really in: that of an unknown user is by the number of training ratings."""

    RELEVANCE = "relevance"
    RATING = "rating"
    LOWER_BOUND = "lower_bound"
    POPULAR = "popular"


NO_ENDS: dict[str, float | None] = {}  # of an interval that nobody asked for


class Interval(NamedTuple):
    """The central 90 % interval of a rating, on the scale; None where the model has no variances."""

    low: float | None
    high: float | None


class Pair(NamedTuple):
    """One pair to predict."""

    user: str
    item: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to predict, as two columns of B ids."""

    users: Ids
    items: Ids

    def __len__(self) -> int:
        return len(self.users)


class Prediction(NamedTuple):
    """The rating of one pair, clipped to the scale (a float32 value), its source, and the model's version."""

    rating: float
    source: Source
    version: str
    ends: dict[str, float | None] = NO_ENDS  # `low` and `high`, if they were asked for


@dataclass(frozen=True, slots=True)
class Predictions:
    """A rating and its source for each pair asked for, in that order."""

    ratings_B: npt.NDArray[np.float32]  # clipped to the scale
    sources_B: npt.NDArray[np.uint8]  # index into `SOURCES`
    version: str
    intervals_2B: npt.NDArray[np.float32] | None = None  # their ends; NaN where the model has no variances

    def at(self, position: int) -> Prediction:
        """The prediction of one of the pairs."""
        both = self.intervals_2B
        ends = NO_ENDS if both is None else interval_list(both[:, position : position + 1])[0]._asdict()
        return Prediction(float(self.ratings_B[position]), SOURCES[self.sources_B[position]], self.version, ends)

    @property
    def ends(self) -> dict[str, Any]:
        """`low` and `high` of each, as columns, if they were asked for."""
        if self.intervals_2B is None:
            return {}
        return dict(zip(Interval._fields, map(shortest, self.intervals_2B), strict=True))


def interval_list(ends_2B: npt.NDArray[np.float32]) -> list[Interval]:
    """Intervals one by one, None for what is NaN."""
    return [Interval(*pair) for pair in zip(*map(shortest, ends_2B), strict=True)]


class ItemFilter(NamedTuple):
    """Items by their genres, labels and first and last year; None for any. An item without a year is in no span.

    An item has one of the comma-separated names of each text of `genre`, and of each of `label`. The items are those
    that lists may show, or with `hidden` all others.
    """

    genre: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    year_min: int | None = None
    year_max: int | None = None
    hidden: bool = False


class ListQuery(NamedTuple):
    """Which items to list. A filter chooses items by their genre and year."""

    user: str | None  # None for a user without an id
    n: int = 10  # fewer come where there are no more
    offset: int = 0  # how many of the list's best are left out: pages follow one another
    rank_by: RankBy | None = None  # None: the order that the model has for lists
    exclude_seen: bool = True  # leave out what the user rated
    exclude: tuple[str, ...] = ()  # ids to leave out, known or not
    only: tuple[str, ...] | None = None  # ids to choose from; None for all
    genre: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    year_min: int | None = None
    year_max: int | None = None
    intervals: bool = False  # say how sure the model is of each rating
    diversity: float = 0.0  # how much an item counts for being unlike those before it, from 0 to 1

    @property
    def filter(self) -> ItemFilter:
        return ItemFilter(self.genre, self.label, self.year_min, self.year_max)

    @property
    def depth(self) -> int:
        """How many items must be found."""
        return max(self.offset + self.n, CANDIDATES if self.diversity else 0)


class RankedItem(msgspec.Struct, frozen=True, gc=False):  # made and encoded twice as fast as a tuple
    """An item of a list; title and year are None where nothing is known.

    `rating` and `score` have the digits of float32 values (`shortest`).
    """

    item: str
    rating: float
    score: float  # what ordered the list
    title: str | None
    year: int | None


@dataclass(frozen=True, slots=True)
class TopList:
    """Items for a user, best first; `intervals` is None if the query did not ask for them."""

    user: str | None
    source: ListSource
    rank_by: ListOrder
    items: list[RankedItem]
    version: str
    intervals: list[Interval] | None = None


@dataclass(frozen=True, slots=True)
class InlineRatings:
    """The ratings of a user without an id, each item at most once."""

    items: Sequence[str]
    ratings: Sequence[float]


# A float32, or an array of them, as JSON; what is no number becomes null.
digits: Callable[[npt.NDArray[np.float32] | np.float32], bytes] = partial(
    orjson.dumps, option=orjson.OPT_SERIALIZE_NUMPY
)


def shortest(values_N: npt.NDArray[np.floating[Any]]) -> list[Any]:
    """The numbers whose shortest text is also that of the float32 values (N,); None for what is no number."""
    found: list[Any] = orjson.loads(digits(np.ascontiguousarray(values_N, np.float32)))
    return found
