"""Ratings: stored, deleted, shown, explained, erased."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, FailFast, Field

from app.api.schemas.common import AnswerModel, Column, ModelVersion, RequestModel, Score, Timestamp


class RatingRequest(RequestModel):
    """What the user gave the item."""

    rating: Score
    timestamp: Timestamp | None = None


class BulkRequest(RequestModel):
    """Ratings as columns of one length; of two for one pair the later stays."""

    users: Column
    items: Column
    ratings: Annotated[list[Score], FailFast()]
    timestamps: Annotated[list[Timestamp] | None, FailFast()] = None


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
