"""What the engine answers: plain values, each naming the version of the model it came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """What a prediction rests on."""

    MODEL = "model"
    ITEM_BIAS = "item_bias"
    USER_BIAS = "user_bias"
    GLOBAL_MEAN = "global_mean"


class ListSource(StrEnum):
    """What a list rests on."""

    MODEL = "model"
    POPULAR = "popular"


@dataclass(frozen=True, slots=True)
class Predictions:
    """A rating and its source for each pair asked for, in that order."""

    ratings: list[float]
    sources: list[Source]
    version: str


@dataclass(frozen=True, slots=True)
class RankedItem:
    """An item of a list; title and year are None where nothing is known."""

    item: str
    rating: float
    title: str | None
    year: int | None


@dataclass(frozen=True, slots=True)
class TopList:
    """Items for a user, best first."""

    source: ListSource
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
