"""What answers say. An answer of the engine becomes the document whose members have the same names."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AliasChoices, BaseModel, Field

from app.engine.types import ListSource, RankBy, Source

ModelVersion = Annotated[
    str,
    Field(
        description="Version of the checkpoint that this answer came from.",
        validation_alias=AliasChoices("model_version", "version"),  # answers of the engine call it so
    ),
]
RatingsUsed = Annotated[int, Field(description="How many of the ratings count: those of items the model knows.")]


class AnswerModel(BaseModel):
    """A body of an answer: it has a member `model_version`."""

    @classmethod
    def of(cls, answer: object) -> Self:
        """The document of an answer of the engine."""
        return cls.model_validate(answer, from_attributes=True)


class PairPrediction(AnswerModel):
    """The rating that the user would give the item, within the scale of the data."""

    rating: float
    source: Source
    model_version: ModelVersion


class ColumnPredictions(AnswerModel):
    """A rating and a source for each pair, in the order of the request."""

    ratings: list[float]
    sources: list[Source]
    model_version: ModelVersion


class AnonymousPrediction(PairPrediction):
    """As for a user, from the ratings given with the request."""

    ratings_used: RatingsUsed


class AnonymousPredictions(ColumnPredictions):
    """As for users, from the ratings given with the request."""

    ratings_used: RatingsUsed


class ListedItem(BaseModel):
    """An item of a list, with the rating that `POST /predict` gives.

    Where intervals were asked for, `low` and `high` are the ends of the central 90 % interval of the expected rating,
    within the scale; null where the model does not know how sure it is.
    """

    item: str
    rating: float
    title: str | None
    year: int | None
    low: float | None = None
    high: float | None = None


class UserList(BaseModel):
    """Items to show a user, best first. `user` is null for somebody known by their ratings alone."""

    user: str | None
    source: ListSource
    rank_by: RankBy
    items: list[ListedItem]


class TopItems(UserList, AnswerModel):
    """The list of one user."""

    model_version: ModelVersion


class Recommendations(AnswerModel):
    """A list for each user, in the order of the request."""

    lists: list[UserList]
    ratings_used: RatingsUsed | None = None
    model_version: ModelVersion


class FoundUser(BaseModel):
    """A user of the model, and the number of their training ratings."""

    id: str
    ratings: int


class FoundUsers(AnswerModel):
    """Users whose id begins with what was searched for."""

    users: list[FoundUser]
    model_version: ModelVersion


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


class StoredRating(AnswerModel):
    """A rating that is stored and counts from now on; one of an item the model does not know, after the next fit."""

    user: str
    item: str
    rating: float
    timestamp: int
    known_item: bool
    model_version: ModelVersion


class RemovedRating(AnswerModel):
    """A rating that counts no longer, whether it was stored or in the training data, or was never there."""

    user: str
    item: str
    model_version: ModelVersion


class StoredRatings(AnswerModel):
    """Ratings that are stored and count from now on; those of unknown items after the next fit."""

    stored: int
    unknown_items: Annotated[int, Field(description="How many of them are of items the model does not know.")]
    model_version: ModelVersion


class ErasedUser(AnswerModel):
    """A user of whom nothing is stored: answered as an unknown one, and left out by the next fit on the store."""

    user: str
    model_version: ModelVersion


class UserRating(BaseModel):
    """What the user gave an item; `timestamp` is null where only the training data has the rating."""

    item: str
    rating: float
    timestamp: int | None
    title: str | None


class UserRatings(AnswerModel):
    """All ratings that count for a user, in the order of the items' ids."""

    user: str
    ratings: list[UserRating]
    model_version: ModelVersion


class UserRow(BaseModel):
    """What a model learned of a user."""

    bias: float
    factors: list[float]
    relevance_factors: list[float] | None


class UserExport(UserRatings):
    """All that the service holds of a user."""

    known_to_model: bool
    row: UserRow | None


class Reason(BaseModel):
    """A rating of the user, and its part in the prediction."""

    item: str
    rating: float
    contribution: float
    title: str | None


class Because(AnswerModel):
    """A prediction as a sum: `baseline`, the parts of the user's ratings, and `others`, the parts not listed.

    `rating` is the sum, clipped to the scale.
    """

    user: str
    item: str
    title: str | None
    rating: float
    baseline: float
    reasons: list[Reason]
    others: float
    model_version: ModelVersion
