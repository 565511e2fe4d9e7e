"""Lists of items for users: parameters and bodies."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, FailFast, Field, StrictBool

from app.api.schemas.common import AnswerModel, Column, Id, InlineRating, ModelVersion, RatingsUsed, RequestModel, Year
from app.engine.types import ListSource, RankBy


class RecommendRequest(RequestModel):
    """Lists for many users, or one for somebody who is known by their ratings alone."""

    users: Annotated[list[Id] | None, FailFast()] = None
    ratings: Annotated[list[InlineRating] | None, FailFast()] = None
    n: Annotated[int, Field(ge=1)] = 10
    rank_by: RankBy | None = None
    exclude_seen: StrictBool = True
    exclude: Column = []  # noqa: RUF012 - pydantic copies it
    only: Annotated[list[Id] | None, FailFast()] = None
    category: str | None = None
    year_min: Year | None = None
    year_max: Year | None = None
    intervals: StrictBool = False


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
