"""Answers of the engine that go to clients as they are: each is described once, for the engine and for the API.

The most frequent answers, predictions and lists, are plain values (`app.engine.types`), because these are faster.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from app.engine.types import ExplainedOrder, LiveSource, Source

ModelVersion = Annotated[str, Field(description="Version of the checkpoint that this answer came from.")]


class FoundUser(BaseModel):
    """A user, and the number of their training ratings; of a user who is new to the model, of their stored ratings."""

    user: str
    ratings: int


class FoundUsers(BaseModel):
    """Users whose id begins with what was searched for."""

    users: list[FoundUser]
    model_version: ModelVersion


class SimilarItem(BaseModel):
    """An item, and the cosine of its factors with those of the item asked for."""

    item: str
    similarity: float
    title: str | None
    year: int | None


class SimilarItems(BaseModel):
    """The items most similar to one item, most similar first."""

    item: str
    items: list[SimilarItem]
    model_version: ModelVersion


class CatalogueItem(BaseModel):
    """What is known about an item; `ratings` and `mean_rating` are of the training data."""

    item: str
    title: str | None
    year: int | None
    genres: list[str] | None
    labels: list[str] | None
    ratings: int
    mean_rating: float | None


class Item(CatalogueItem):
    """As `CatalogueItem`, and whether lists may show it: not if it is hidden, or outside its time.

    `known_to_model` says whether it can be in lists at all: an item that nothing can be predicted of cannot.
    """

    hidden: bool
    available_from: int | None
    available_until: int | None
    known_to_model: bool
    model_version: ModelVersion


class RatingByUser(BaseModel):
    """A rating of an item; `timestamp` is null if only the training data has it, or if it is not known."""

    user: str
    rating: float
    timestamp: int | None


class RatingLevel(BaseModel):
    """How many ratings of an item are at a level of the scale."""

    rating: float
    ratings: int


class ItemRatings(BaseModel):
    """All ratings that count of an item, by level, and the latest of them; ratings of the training data come last.

    Of more than 20 different ratings, the levels are 20 evenly spaced ones, and each rating is at the nearest.
    """

    item: str
    ratings: int
    mean_rating: float | None
    levels: list[RatingLevel]
    latest: list[RatingByUser]
    model_version: ModelVersion


class LikelyUser(BaseModel):
    """A user, and the rating that `POST /predict` gives."""

    user: str
    rating: float
    source: Source


class LikelyUsers(BaseModel):
    """Users who have not rated an item, those with the highest predicted rating first."""

    item: str
    users: list[LikelyUser]
    model_version: ModelVersion


class FoundItems(BaseModel):
    """Items that a search found, best match first."""

    items: list[CatalogueItem]
    model_version: ModelVersion


class Genre(BaseModel):
    """A genre, and how many items are of it."""

    name: str
    items: int


class FoundGenres(BaseModel):
    """All genres, the most frequent first."""

    genres: list[Genre]
    model_version: ModelVersion


class UserRating(BaseModel):
    """A rating of the user; `timestamp` is null if only the training data has it, or if it is not known."""

    item: str
    rating: float
    timestamp: int | None
    title: str | None


class UserRatings(BaseModel):
    """All ratings that count for a user, in the order of the items' ids."""

    user: str
    ratings: list[UserRating]
    model_version: ModelVersion


class UserRow(BaseModel):
    """A user's row of the model's tables."""

    bias: float
    factors: list[float]
    relevance_factors: list[float] | None


class Reason(BaseModel):
    """A rating of the user, and its contribution to the prediction."""

    item: str
    rating: float
    contribution: float
    title: str | None


class Because(BaseModel):
    """The number that is served, as a sum: `score` is `baseline`, the parts of the user's ratings, and two more.

    `others` are the parts not listed. `fitted` is what the user's fitted row says beyond what follows from the ratings
    by themselves; 0 for one that is folded in. `score` is what orders lists by `rank_by`: with `rating` the expected
    rating, of which `rating` is the one that `POST /predict` gives, clipped to the scale.
    """

    user: str
    item: str
    title: str | None
    rating: float
    rank_by: ExplainedOrder
    score: float
    baseline: float
    reasons: list[Reason]
    others: float
    fitted: float
    model_version: ModelVersion


class LiveFigures(BaseModel):
    """How far off a version was for ratings that came in, of one source; null where there are no intervals.

    `bias_…` are the same figures of a prediction by biases alone.
    """

    version: str
    source: LiveSource
    ratings: int
    rmse: float
    mae: float
    coverage90: float | None
    bias_rmse: float
    bias_mae: float
    bias_coverage90: float | None


class Quality(BaseModel):
    """The live error of the last days; `waiting` ratings have come in and are not in it yet."""

    days: int
    waiting: int
    figures: list[LiveFigures]
    model_version: ModelVersion


class DayOfRatings(BaseModel):
    """How many stored ratings are of a day, in UTC."""

    day: date
    ratings: int


class RatingsSince(BaseModel):
    """What has come since the served model was fitted: users who changed, and ratings that were given later.

    Everything, if the model was fitted on other data than this store.
    """

    users: int
    ratings: int


class RatingsSummary(BaseModel):
    """What is in the store; `deleted_users` are remembered, and left out of later fits.

    `days` are those with ratings, `first` and `last` the times of the first and the last rating.
    """

    ratings: int
    users: int
    items: int
    deleted_users: int
    first: datetime | None
    last: datetime | None
    since_fit: RatingsSince
    days: list[DayOfRatings]
    model_version: ModelVersion


class FailedLoad(BaseModel):
    """A version that should be served but could not be loaded; `version` is null if `CURRENT` names none."""

    version: str | None
    reason: str  # one line, without the name of the directory
    since: datetime  # when it failed for this reason first
