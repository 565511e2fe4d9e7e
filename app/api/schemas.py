"""What goes over the wire. The sizes that settings bound are checked in `app.api.limits`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

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

from app.engine.types import ListSource, RankBy, Source
from models.checkpoint.manifest import DataRecord, GateRecord, ModelShape, TrainerRecord


def _id_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    text_or_number = core_schema.union_schema(
        [core_schema.str_schema(strict=True, min_length=1), core_schema.int_schema(strict=True)],
        custom_error_type="id",
        custom_error_message="an id is a string of at least one character, or an integer",
    )
    return core_schema.no_info_after_validator_function(str, text_or_number)


Id = Annotated[str, GetPydanticSchema(_id_schema)]
Column = Annotated[list[Id], FailFast()]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PairRequest(_Request):
    """One pair."""

    user: Id
    item: Id


class ColumnsRequest(_Request):
    """Any number of pairs, as two columns of one length."""

    users: Column
    items: Column


Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
LAST_SECOND = (1 << 53) - 1


def _whole(seconds: float) -> float:
    if not seconds.is_integer():
        raise ValueError("a whole number of seconds is wanted")
    return seconds


Timestamp = Annotated[  # JSON has one kind of number: 7.0 is an integer
    float,
    Field(strict=True, ge=0, le=LAST_SECOND),
    AfterValidator(_whole),
    WithJsonSchema(
        {"type": "integer", "minimum": 0, "maximum": LAST_SECOND, "description": "Seconds since 1970; by default now."}
    ),
]


class InlineRating(_Request):
    """What somebody gave an item."""

    item: Id
    rating: Score


Inline = Annotated[list[InlineRating], FailFast(), Field(description="What an anonymous user rated. It is not kept.")]


class AnonymousPairRequest(_Request):
    """One item, for somebody who is known by their ratings alone."""

    item: Id
    ratings: Inline


class AnonymousColumnsRequest(_Request):
    """Any number of items, for somebody who is known by their ratings alone."""

    items: Column
    ratings: Inline


class RatingRequest(_Request):
    """What the user gave the item."""

    rating: Score
    timestamp: Timestamp | None = None


class BulkRequest(_Request):
    """Ratings as columns of one length; of two for one pair the later stays."""

    users: Column
    items: Column
    ratings: Annotated[list[Score], FailFast()]
    timestamps: Annotated[list[Timestamp] | None, FailFast()] = None


Year = Annotated[int, Field(ge=0, le=9999)]


class RecommendRequest(_Request):
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


FORMS = PAIR, COLUMNS, ANONYMOUS_PAIR, ANONYMOUS_COLUMNS = "pair", "columns", "anonymous pair", "anonymous columns"


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


ModelVersion = Annotated[str, Field(description="Version of the checkpoint that this answer came from.")]


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class PairPrediction(_Answer):
    """The rating that the user would give the item, within the scale of the data."""

    rating: float
    source: Source
    model_version: ModelVersion


class ColumnPredictions(_Answer):
    """A rating and a source for each pair, in the order of the request."""

    ratings: list[float]
    sources: list[Source]
    model_version: ModelVersion


RatingsUsed = Annotated[int, Field(description="How many of the ratings count: those of items the model knows.")]


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


class TopItems(UserList, _Answer):
    """The list of one user."""

    model_version: ModelVersion


class Recommendations(_Answer):
    """A list for each user, in the order of the request."""

    lists: list[UserList]
    ratings_used: RatingsUsed | None = None
    model_version: ModelVersion


class StoredRating(_Answer):
    """A rating that is stored and counts from now on; one of an item the model does not know, after the next fit."""

    user: str
    item: str
    rating: float
    timestamp: int
    known_item: bool
    model_version: ModelVersion


class RemovedRating(_Answer):
    """A rating that counts no longer, whether it was stored or in the training data, or was never there."""

    user: str
    item: str
    model_version: ModelVersion


class StoredRatings(_Answer):
    """Ratings that are stored and count from now on; those of unknown items after the next fit."""

    stored: int
    unknown_items: Annotated[int, Field(description="How many of them are of items the model does not know.")]
    model_version: ModelVersion


class ErasedUser(_Answer):
    """A user of whom nothing is stored: answered as an unknown one, and left out by the next fit on the store."""

    user: str
    model_version: ModelVersion


class UserRating(BaseModel):
    """What the user gave an item; `timestamp` is null where only the training data has the rating."""

    item: str
    rating: float
    timestamp: int | None
    title: str | None


class UserRatings(_Answer):
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


class Because(_Answer):
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


class SimilarItem(BaseModel):
    """An item, and the cosine of its factors with the other one's."""

    item: str
    similarity: float
    title: str | None
    year: int | None


class SimilarItems(_Answer):
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


class Item(CatalogueItem, _Answer):
    """As `CatalogueItem`."""

    model_version: ModelVersion


class FoundItems(_Answer):
    """Items that a search found, best match first."""

    items: list[CatalogueItem]
    model_version: ModelVersion


class FoundUser(BaseModel):
    """A user of the model, and the number of their training ratings."""

    id: str
    ratings: int


class FoundUsers(_Answer):
    """Users whose id begins with what was searched for."""

    users: list[FoundUser]
    model_version: ModelVersion


class Genre(BaseModel):
    """A genre, and how many items are of it."""

    name: str
    items: int


class Genres(_Answer):
    """All genres, those of the most items first."""

    genres: list[Genre]
    model_version: ModelVersion


HasReport = Annotated[bool, Field(description="Whether `GET /models/{version}/report` has a page.")]


class CurrentModel(BaseModel):
    """The model being served."""

    version: str
    created_at: datetime
    age_seconds: float
    device: str
    shape: ModelShape
    trainer: TrainerRecord
    data: DataRecord
    gate: GateRecord
    metrics: Mapping[str, float | None]
    report: HasReport


class PublishedModel(BaseModel):
    """A published version; `serving` says whether the one who answers serves it."""

    version: str
    created_at: datetime
    preset: str
    gate: GateRecord
    metrics: Mapping[str, float | None]
    report: HasReport
    serving: bool


class PublishedModels(_Answer):
    """Every published version that can be read, oldest first."""

    models: list[PublishedModel]
    model_version: ModelVersion


class Pass(BaseModel):
    """What was known after a pass of the fit; `test_rmse` is null where it was not measured."""

    number: int
    figures: Mapping[str, float]
    test_rmse: float | None
    fit_seconds: float


class History(_Answer):
    """The learning curve of a version."""

    version: str
    passes: list[Pass]
    model_version: ModelVersion


class Activated(_Answer):
    """The version that was made the current one; other workers follow within two seconds."""

    model_version: ModelVersion


class FailedLoad(BaseModel):
    """A version that is wanted and could not be served; null where `CURRENT` names none."""

    version: str | None
    reason: str
    since: datetime


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(_Answer):
    """A model is being served."""

    status: Literal["ready"] = "ready"
    model_version: ModelVersion
    failed_load: FailedLoad | None = None


class FieldError(BaseModel):
    """One thing that is wrong with a request: where (`body.users.3`, `query.n`) and what."""

    location: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). Members that do not apply are absent."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
    user: str | None = None
    item: str | None = None
    position: int | None = None
