"""The bodies of answers that are not documents of the engine (`app.engine.documents`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from app.engine.documents import ModelVersion, UserRatings, UserRow
from app.engine.types import ListOrder, ListSource, Source

RatingsUsed = Annotated[int, Field(description="Number of ratings that count: those of items that the model knows.")]


class PairPrediction(BaseModel):
    """The predicted rating, within the scale of the data.

    Where intervals were asked for, `low` and `high` are the ends of its central 90 % interval; null where the model has
    none.
    """

    rating: float
    source: Source
    low: float | None = None
    high: float | None = None
    model_version: ModelVersion


class ColumnPredictions(BaseModel):
    """A rating and a source for each pair, in the order of the request; where they were asked for, intervals too."""

    ratings: list[float]
    sources: list[Source]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    model_version: ModelVersion


class AnonymousPrediction(PairPrediction):
    """A prediction from the ratings in the request."""

    ratings_used: RatingsUsed


class AnonymousPredictions(ColumnPredictions):
    """Predictions from the ratings in the request."""

    ratings_used: RatingsUsed


class ListedItem(BaseModel):
    """An item of a list, with the rating that `POST /predict` gives, and the score that ordered it.

    Where intervals were asked for, `low` and `high` are those of `POST /predict`.
    """

    item: str
    rating: float
    score: float
    title: str | None
    year: int | None
    low: float | None = None
    high: float | None = None


class UserList(BaseModel):
    """Items to show a user, best first. `user` is null for a list from ratings in the request.

    `rank_by` is the order that the list is in: of an unknown user `popular`, whose scores are numbers of ratings.
    """

    user: str | None
    source: ListSource
    rank_by: ListOrder
    items: list[ListedItem]


class TopItems(UserList):
    """The list of one user."""

    model_version: ModelVersion


class Recommendations(BaseModel):
    """A list for each user, in the order of the request."""

    lists: list[UserList]
    ratings_used: RatingsUsed | None = None
    model_version: ModelVersion


class StoredRating(BaseModel):
    """A stored rating. It counts from now on, or a second later if it is the first of an item."""

    user: str
    item: str
    rating: float
    timestamp: int
    known_item: bool
    model_version: ModelVersion


class RemovedRating(BaseModel):
    """A rating that no longer counts, whether it was stored, in the training data, or absent."""

    user: str
    item: str
    model_version: ModelVersion


class StoredRatings(BaseModel):
    """Stored ratings. They count from now on, those of unknown items a second later."""

    stored: int
    unknown_items: Annotated[int, Field(description="Number of ratings of items that the model does not know.")]
    model_version: ModelVersion


class StoredItems(BaseModel):
    """Items that are stored, and shown from now on; those that the model does not know are in lists after a fit."""

    stored: int
    unknown_items: Annotated[int, Field(description="How many of them the model does not know.")]
    model_version: ModelVersion


class RemovedItem(BaseModel):
    """An item that is in no list and no search any more, whether it was there or not."""

    item: str
    model_version: ModelVersion


class ErasedUser(BaseModel):
    """A user without any ratings: unknown from now on, and not in the next fit on the store."""

    user: str
    model_version: ModelVersion


class UserExport(UserRatings):
    """Everything that the service has about a user."""

    known_to_model: bool
    row: UserRow | None
