"""The bodies of requests. Pydantic validates them and explains their errors."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    GetPydanticSchema,
    PlainValidator,
    StrictBool,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

from app.engine.types import RankBy
from app.ratings.records import storable
from models.ids import EXACT, clean, of
from models.times import LAST_SECOND


class RequestModel(BaseModel):
    """A body of a request. An unknown member is an error."""

    model_config = ConfigDict(extra="forbid")


def _clean_id(text: str) -> str:
    if not (id_ := clean(text)):
        raise ValueError("an id must not be blank")
    return id_


def _check_storable(text: str) -> str:
    if not storable(text):
        raise ValueError("a text that is stored must not have a NUL or a lone surrogate")
    return text


def _clean_name(text: str) -> str:
    """A genre or a label of an item, so that the parameters `genre` and `label` can name it."""
    if not (name := _check_storable(text).strip()):
        raise ValueError("a genre or a label must not be blank")
    if "," in name:
        raise ValueError("a genre or a label must not have a comma, which separates names in `genre` and `label`")
    return name


def _each_once(names: list[str]) -> list[str]:
    return [*dict.fromkeys(names)]


def _id_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, min_length=1, pattern=r"\S")  # the pattern is for the document
    text_or_number = core_schema.union_schema(
        [
            core_schema.no_info_after_validator_function(_clean_id, text),
            core_schema.int_schema(strict=True),
            core_schema.float_schema(strict=True, allow_inf_nan=False, gt=-EXACT, lt=EXACT),
        ],
        custom_error_type="id",
        custom_error_message="an id is a string of at least one character, an integer, or a number below 2⁵³",
    )
    return core_schema.no_info_after_validator_function(of, text_or_number)


def _seconds(given: Any) -> int:
    """Seconds since 1970 of a time in a request. JSON has one kind of number, so 7.0 is an integer."""
    seconds = _seconds_of_text(given) if isinstance(given, str) else given
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= LAST_SECOND:
        whole = int(seconds)
        if whole == seconds:
            return whole
    raise PydanticCustomError("time", "times are in whole seconds since 1970 or in ISO 8601, up to the year 2100")


def _seconds_of_text(text: str) -> int | None:
    """Seconds of a time in ISO 8601; None for another text. Without a zone it is UTC; parts of a second are dropped."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return math.floor(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


Id = Annotated[str, GetPydanticSchema(_id_schema)]
Column = Annotated[list[Id], FailFast()]
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Timestamp = Annotated[
    int,
    PlainValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": LAST_SECOND},
                {"type": "string", "format": "date-time"},
            ],
            "description": "Seconds since 1970, or ISO 8601, in UTC if it has no zone; from 1970 to 2100.",
        }
    ),
]
MAX_TEXT = 256  # characters of a text that is looked for
MAX_NAMES = 20  # texts of genres, or of labels, that must hold together; each takes a look at all items
Names = list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]]
MAX_TITLE = 4_096  # characters; a worker keeps the titles of all items in memory
MAX_STORED_NAMES = 1_000  # genres of an item, or labels
StoredTitle = Annotated[str, Field(max_length=MAX_TITLE), AfterValidator(_check_storable)]
StoredName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEXT, json_schema_extra={"pattern": r"^[^,]*[^,\s][^,]*$"}),
    AfterValidator(_clean_name),
]
StoredNames = Annotated[list[StoredName], Field(max_length=MAX_STORED_NAMES), AfterValidator(_each_once)]
Year = Annotated[int, Field(ge=0, le=9999)]


class InlineRating(RequestModel):
    """A user's rating of an item."""

    item: Id
    rating: Score


Inline = Annotated[list[InlineRating], FailFast(), Field(description="Ratings of an anonymous user, not stored.")]


class PairRequest(RequestModel):
    """One pair."""

    user: Id
    item: Id


class ColumnsRequest(RequestModel):
    """Any number of pairs, as two columns of one length."""

    users: Column
    items: Column


class AnonymousPairRequest(RequestModel):
    """One item, predicted from the given ratings alone."""

    item: Id
    ratings: Inline


class AnonymousColumnsRequest(RequestModel):
    """Any number of items, predicted from the given ratings alone."""

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
    """Lists for many users, or one list from the given ratings alone."""

    users: Annotated[list[Id] | None, FailFast()] = None
    ratings: Annotated[list[InlineRating] | None, FailFast()] = None
    n: Annotated[int, Field(ge=1)] = 10
    offset: Annotated[int, Field(ge=0)] = 0
    rank_by: RankBy | None = None
    exclude_seen: StrictBool = True
    exclude: Column = []
    only: Annotated[list[Id] | None, FailFast()] = None
    genre: Annotated[Names, Field(max_length=MAX_NAMES)] = []
    label: Annotated[Names, Field(max_length=MAX_NAMES)] = []
    year_min: Year | None = None
    year_max: Year | None = None
    intervals: StrictBool = False
    diversity: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = 0.0


class ItemRequest(RequestModel):
    """What is known of an item. Lists show it from `available_from` until before `available_until`, unless hidden."""

    title: StoredTitle | None = None
    year: Year | None = None
    genres: StoredNames | None = None
    labels: StoredNames | None = None
    hidden: StrictBool = False
    available_from: Timestamp | None = None
    available_until: Timestamp | None = None


class ListedItemRequest(ItemRequest):
    """An item of many."""

    item: Id


class ItemsRequest(RequestModel):
    """Items, each of them once."""

    items: Annotated[list[ListedItemRequest], FailFast()]


class RatingRequest(RequestModel):
    """The user's rating of the item."""

    rating: Score
    timestamp: Annotated[Timestamp | None, Field(description="Time of the rating; by default now.")] = None


class BulkRequest(RequestModel):
    """Ratings as columns of one length; of two for one pair the later counts."""

    users: Column
    items: Column
    ratings: Annotated[list[Score], FailFast()]
    timestamps: Annotated[
        list[Timestamp | None] | None, FailFast(), Field(description="Times; by default now. null: unknown.")
    ] = None
