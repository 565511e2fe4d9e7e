"""The catalogue: items, genres, similar items."""

from __future__ import annotations

from pydantic import BaseModel

from app.api.schemas.common import AnswerModel, ModelVersion


class SimilarItem(BaseModel):
    """An item, and the cosine of its factors with the other one's."""

    item: str
    similarity: float
    title: str | None
    year: int | None


class SimilarItems(AnswerModel):
    """The items nearest to one, nearest first."""

    item: str
    items: list[SimilarItem]
    model_version: ModelVersion


class CatalogueItem(BaseModel):
    """What is known about an item; `ratings` and `mean_rating` are of the training data."""

    id: str
    title: str | None
    year: int | None
    genres: list[str] | None
    ratings: int
    mean_rating: float | None


class Item(CatalogueItem, AnswerModel):
    """As `CatalogueItem`."""

    model_version: ModelVersion


class FoundItems(AnswerModel):
    """Items that a search found, best match first."""

    items: list[CatalogueItem]
    model_version: ModelVersion


class Genre(BaseModel):
    """A genre, and how many items are of it."""

    name: str
    items: int


class Genres(AnswerModel):
    """All genres, those of the most items first."""

    genres: list[Genre]
    model_version: ModelVersion
