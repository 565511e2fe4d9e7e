"""What goes over the wire. The sizes that settings bound are checked in `app.limits`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, GetPydanticSchema, StrictBool, Tag
from pydantic_core import core_schema

from app.engine.answers import ListSource, RankBy, Source
from models.manifest import DataRecord, ModelShape, TrainerRecord


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


class RecommendRequest(_Request):
    """Lists for many users."""

    users: Column
    n: Annotated[int, Field(ge=1)] = 10
    rank_by: RankBy | None = None
    exclude_seen: StrictBool = True
    exclude: Column = []
    only: Annotated[list[Id] | None, FailFast()] = None
    category: str | None = None


FORMS = PAIR, COLUMNS = "pair", "columns"


def _form_of(body: Any) -> str:
    return COLUMNS if isinstance(body, dict) and not body.keys().isdisjoint(("users", "items")) else PAIR


PredictRequest = Annotated[
    Annotated[PairRequest, Tag(PAIR)] | Annotated[ColumnsRequest, Tag(COLUMNS)], Discriminator(_form_of)
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


class ListedItem(BaseModel):
    """An item of a list, with the rating that `POST /predict` gives."""

    item: str
    rating: float
    title: str | None
    year: int | None


class UserList(BaseModel):
    """Items to show a user, best first."""

    user: str
    source: ListSource
    rank_by: RankBy
    items: list[ListedItem]


class TopItems(UserList, _Answer):
    """The list of one user."""

    model_version: ModelVersion


class Recommendations(_Answer):
    """A list for each user, in the order of the request."""

    lists: list[UserList]
    model_version: ModelVersion


class Item(_Answer):
    """What is known about an item; `ratings` and `mean_rating` are of the training data."""

    id: str
    title: str | None
    year: int | None
    genres: list[str] | None
    ratings: int
    mean_rating: float | None
    model_version: ModelVersion


class CurrentModel(BaseModel):
    """The model being served."""

    version: str
    created_at: datetime
    age_seconds: float
    device: str
    shape: ModelShape
    trainer: TrainerRecord
    data: DataRecord
    metrics: Mapping[str, float | None]


class PublishedModel(BaseModel):
    """A published version; `serving` says whether the one who answers serves it."""

    version: str
    created_at: datetime
    preset: str
    metrics: Mapping[str, float | None]
    serving: bool


class PublishedModels(_Answer):
    """Every published version that can be read, oldest first."""

    models: list[PublishedModel]
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
