"""What the engine is asked and what it answers: plain values, each answer naming the version of the model it came from.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ids: TypeAlias = Sequence[str] | pa.ChunkedArray


class Source(StrEnum):
    """What a prediction rests on."""

    MODEL = "model"
    ITEM_BIAS = "item_bias"
    USER_BIAS = "user_bias"
    GLOBAL_MEAN = "global_mean"


# Indexed by (is the user unknown) · 2 + (is the item unknown).
SOURCES = (Source.MODEL, Source.USER_BIAS, Source.ITEM_BIAS, Source.GLOBAL_MEAN)


class ListSource(StrEnum):
    """What a list rests on."""

    MODEL = "model"
    POPULAR = "popular"


class RankBy(StrEnum):
    """What orders a list."""

    RELEVANCE = "relevance"
    RATING = "rating"
    LOWER_BOUND = "lower_bound"


class Pair(NamedTuple):
    """One pair to predict."""

    user: str
    item: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs to predict, as two columns of ids.

    Attributes:
        users: B ids.
        items: as many.
    """

    users: Ids
    items: Ids

    def __len__(self) -> int:
        return len(self.users)


class Prediction(NamedTuple):
    """The rating of one pair, clipped to the scale (a float32 value), what it rests on, and the model's version."""

    rating: float
    source: Source
    version: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """A rating and its source for each pair asked for, in that order.

    Attributes:
        ratings_B: clipped to the scale, float32.
        sources_B: index into `SOURCES`, uint8.
        version: of the model.
    """

    ratings_B: npt.NDArray[np.float32]
    sources_B: npt.NDArray[np.uint8]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which items to list.

    Attributes:
        user: whom for.
        n: how many; fewer come where there are no more.
        rank_by: the order; None is the one the model has for lists.
        exclude_seen: leave out what the user rated in training.
        exclude: ids of items to leave out, known or not.
        only: ids of the items to choose from; None for all.
        category: genre of the items to choose from; None for any.
    """

    user: str
    n: int = 10
    rank_by: RankBy | None = None
    exclude_seen: bool = True
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    category: str | None = None


class RankedItem(NamedTuple):
    """An item of a list; title and year are None where nothing is known. `rating` is a float32 value."""

    item: str
    rating: float
    title: str | None
    year: int | None


@dataclass(frozen=True, slots=True)
class TopList:
    """Items for a user, best first."""

    user: str
    source: ListSource
    rank_by: RankBy
    items: list[RankedItem]
    version: str


@dataclass(frozen=True, slots=True)
class ItemDetails:
    """What is known about an item; `ratings` counts those it was trained on."""

    id: str
    title: str | None
    year: int | None
    genres: list[str] | None
    ratings: int
    mean_rating: float | None
    version: str
