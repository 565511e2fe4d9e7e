"""What requests say in their bodies: pydantic explains what is wrong with one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    GetPydanticSchema,
    StrictBool,
    Tag,
    WithJsonSchema,
)
from pydantic_core import core_schema

from app.engine.types import RankBy
from models.ids import clean

LAST_SECOND = (1 << 53) - 1


class RequestModel(BaseModel):
    """A body of a request: a member that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


def _clean_id(text: str) -> str:
    if not (id_ := clean(text)):
        raise ValueError("an id of blanks")
    return id_


def _id_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, min_length=1)
    text_or_number = core_schema.union_schema(
        [core_schema.no_info_after_validator_function(_clean_id, text), core_schema.int_schema(strict=True)],
        custom_error_type="id",
        custom_error_message="an id is a string of at least one character, or an integer",
    )
    return core_schema.no_info_after_validator_function(str, text_or_number)


def _whole(seconds: float) -> float:
    if not seconds.is_integer():
        raise ValueError("a whole number of seconds is wanted")
    return seconds


Id = Annotated[str, GetPydanticSchema(_id_schema)]
Column = Annotated[list[Id], FailFast()]
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Timestamp = Annotated[  # JSON has one kind of number: 7.0 is an integer
    float,
    Field(strict=True, ge=0, le=LAST_SECOND),
    AfterValidator(_whole),
    WithJsonSchema(
        {"type": "integer", "minimum": 0, "maximum": LAST_SECOND, "description": "Seconds since 1970; by default now."}
    ),
]
Year = Annotated[int, Field(ge=0, le=9999)]


class InlineRating(RequestModel):
    """What somebody gave an item."""

    item: Id
    rating: Score


Inline = Annotated[list[InlineRating], FailFast(), Field(description="What an anonymous user rated. It is not kept.")]


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


class RecommendRequest(RequestModel):
    """Lists for many users, or one for somebody who is known by their ratings alone."""

    users: Annotated[list[Id] | None, FailFast()] = None
    ratings: Annotated[list[InlineRating] | None, FailFast()] = None
    n: Annotated[int, Field(ge=1)] = 10
    rank_by: RankBy | None = None
    exclude_seen: StrictBool = True
    exclude: Column = []
    only: Annotated[list[Id] | None, FailFast()] = None
    category: str | None = None
    year_min: Year | None = None
    year_max: Year | None = None
    intervals: StrictBool = False


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
