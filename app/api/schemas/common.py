"""Parts that the documents of several resources share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, GetPydanticSchema, WithJsonSchema
from pydantic_core import core_schema

LAST_SECOND = (1 << 53) - 1


class RequestModel(BaseModel):
    """A body of a request: a member that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class AnswerModel(BaseModel):
    """A body of an answer: it has a member `model_version`."""

    model_config = ConfigDict(protected_namespaces=())


def _id_schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    text_or_number = core_schema.union_schema(
        [core_schema.str_schema(strict=True, min_length=1), core_schema.int_schema(strict=True)],
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
ModelVersion = Annotated[str, Field(description="Version of the checkpoint that this answer came from.")]
RatingsUsed = Annotated[int, Field(description="How many of the ratings count: those of items the model knows.")]


class InlineRating(RequestModel):
    """What somebody gave an item."""

    item: Id
    rating: Score


Inline = Annotated[list[InlineRating], FailFast(), Field(description="What an anonymous user rated. It is not kept.")]
