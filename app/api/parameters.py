"""Parameters in paths and queries. An id in a path may hold any character, slashes and line ends too.

Where a path has two ids, or erases somebody, an id is one segment of it, and its own slashes are percent-encoded.
Servers decode them before anybody routes, so they are looked up in what the client sent. The other paths with an id
take plain slashes too, and are tried after those.
"""

from __future__ import annotations

from functools import partial
from string import printable
from typing import Annotated
from urllib.parse import quote, unquote, unquote_to_bytes

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator
from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope

from app.api.schemas.requests import Year
from app.engine.types import RankBy
from app.errors import UndecodableTargetError
from models.ids import clean

SLASH = "\U0010ffff"  # stands for a slash of an id while a path is routed; a noncharacter, which no text should hold


class IdConvertor(Convertor[str]):
    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return clean(value.replace(SLASH, "/"))

    def to_string(self, value: str) -> str:
        return value


class SegmentConvertor(IdConvertor):
    regex = r"[^/]+"


def check_utf8(scope: Scope) -> None:
    """Raise UndecodableTargetError for a path or a query that is not UTF-8; two users would be one.

    Frameworks read bytes of a query that are not percent-encoded as Latin-1: they are percent-encoded here.
    """
    path, query = scope.get("raw_path") or b"", scope["query_string"]
    try:
        unquote_to_bytes(path + b"?" + query).decode()
    except UnicodeDecodeError:
        raise UndecodableTargetError from None
    if not query.isascii():
        scope["query_string"] = quote(query, safe=printable).encode()


def decode_segments(scope: Scope) -> None:
    """Let routers tell a slash of an id, percent-encoded, from one of the path."""
    raw = scope.get("raw_path") or b""
    if b"%2f" not in raw and b"%2F" not in raw:
        return
    segments = raw.decode("latin-1").split("/")
    scope["path"] = "/".join(unquote(segment, errors="replace").replace("/", SLASH) for segment in segments)


register_url_convertor("id", IdConvertor())
register_url_convertor("segment", SegmentConvertor())

BECAUSE = "/users/{user:segment}/because/{item:segment}"
RATING = "/users/{user:segment}/ratings/{item:segment}"
RATINGS = "/users/{user:segment}/ratings"
EXPORT = "/users/{user:segment}/export"
USER = "/users/{user:segment}"
SIMILAR = "/items/{item:segment}/similar"
TOP = "/users/{user:id}/top"
ITEM = "/items/{item:id}"

IdPath = partial(Path, min_length=1, pattern=r"\S")  # the pattern is for the document: blanks have gone before
MAX_QUERY = 256  # characters that are searched for
N = Annotated[int, Query(ge=1, description="How many; the service has an upper bound.")]
ListLength = Annotated[int, Query(ge=1, description="How many items; the service has an upper bound.")]
Offset = Annotated[
    int, Query(ge=0, description="How many of the best are left out: the next page begins at the sum of offset and n.")
]
Diversity = Annotated[
    float,
    Query(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much items of the list are to be unlike one another: 0 not at all, 1 in place of their score.",
    ),
]
Intervals = Annotated[
    bool,
    Query(description="Add the ends of the central 90 % interval of each rating, `low` and `high`."),
]
NAMES = "Choose from the items of this {0} alone; of several separated by commas any, of repeated ones each."
Genre = Annotated[tuple[str, ...], Query(description=NAMES.format("genre"))]
Label = Annotated[tuple[str, ...], Query(description=NAMES.format("label"))]
YearMin = Annotated[Year | None, Query(description="Choose from the items of this year and later ones.")]
YearMax = Annotated[Year | None, Query(description="Choose from the items of this year and earlier ones.")]
User = Annotated[str, IdPath(description="The user's id.", openapi_examples={"196": {"value": "196"}})]
Item = Annotated[str, IdPath(description="The item's id.", openapi_examples={"242": {"value": "242"}})]
ORDER = (
    "`relevance`: what the user is likely to choose; `rating`: by predicted rating; `lower_bound`: by the lower end "
    "of the 90 % interval of its expectation. By default `relevance` where the model has it, else `rating`."
)
QueryId = Annotated[str, BeforeValidator(clean)]
REPEATABLE = (
    "exclude",
    "only",
    "genre",
    "label",
)  # in a query; of any other parameter that is given twice the last counts


class PredictParameters(BaseModel):
    """Of `POST /predict`."""

    strict: Annotated[bool, Query(description="Answer 404 for an unknown user or item.")] = False
    intervals: Intervals = False


class ListParameters(BaseModel):
    """Of `GET /users/{user}/top`."""

    n: ListLength = 10
    offset: Offset = 0
    rank_by: Annotated[RankBy | None, Query(description=ORDER)] = None
    exclude_seen: Annotated[bool, Query(description="Leave out what the user rated.")] = True
    exclude: Annotated[tuple[QueryId, ...], Query(description="Leave out these items too; repeatable.")] = ()
    only: Annotated[tuple[QueryId, ...] | None, Query(description="Choose from these items alone; repeatable.")] = None
    genre: Genre = ()
    label: Label = ()
    year_min: YearMin = None
    year_max: YearMax = None
    intervals: Intervals = False
    diversity: Diversity = 0.0
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False
