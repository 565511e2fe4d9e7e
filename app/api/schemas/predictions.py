"""Bodies of `POST /predict`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from app.api.schemas.common import AnswerModel, Column, Id, Inline, ModelVersion, RatingsUsed, RequestModel
from app.engine.types import Source


class PairRequest(RequestModel):
    """One pair."""

    user: Id
    item: Id


class ColumnsRequest(RequestModel):
    """Any number of pairs, as two columns of one length."""

    users: Column
    items: Column


class AnonymousPairRequest(RequestModel):
    """One item, for somebody who is known by their ratings alone."""

    item: Id
    ratings: Inline


class AnonymousColumnsRequest(RequestModel):
    """Any number of items, for somebody who is known by their ratings alone."""

    items: Column
    ratings: Inline


PAIR, COLUMNS, ANONYMOUS_PAIR, ANONYMOUS_COLUMNS = "pair", "columns", "anonymous pair", "anonymous columns"


def _form_of(body: Any) -> str:
    if not isinstance(body, dict):
        return PAIR
    if "ratings" in body:
        return ANONYMOUS_COLUMNS if "items" in body else ANONYMOUS_PAIR
    return PAIR if body.keys().isdisjoint(("users", "items")) else COLUMNS


PredictRequest = Annotated[
    Annotated[PairRequest, Tag(PAIR)]
    | Annotated[ColumnsRequest, Tag(COLUMNS)]
    | Annotated[AnonymousPairRequest, Tag(ANONYMOUS_PAIR)]
    | Annotated[AnonymousColumnsRequest, Tag(ANONYMOUS_COLUMNS)],
    Discriminator(_form_of),
]


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
