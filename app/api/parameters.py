"""Parameters in paths and queries. An id in a path may hold any character, slashes and line ends too.

In a path with two ids, and in the one that deletes a user, each id is one segment; its slashes are percent-encoded.
Servers decode them before routing, so this module looks them up in what the client sent. Other paths with an id
accept plain slashes too, and are tried after these.
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
    """Raise UndecodableTargetError for a path or a query that is not UTF-8; otherwise two users could become one.

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
    """Mark percent-encoded slashes, so that routers can distinguish a slash of an id from one of the path."""
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
N = Annotated[int, Query(ge=1, description="Maximum number of results; the service has an upper limit.")]
ListLength = Annotated[int, Query(ge=1, description="Number of items; the service has an upper limit.")]
Category = Annotated[str | None, Query(description="List only items of this genre.")]
YearMin = Annotated[Year | None, Query(description="List only items of this year and later.")]
YearMax = Annotated[Year | None, Query(description="List only items of this year and earlier.")]
User = Annotated[str, IdPath(description="The user's id.", openapi_examples={"196": {"value": "196"}})]
Item = Annotated[str, IdPath(description="The item's id.", openapi_examples={"242": {"value": "242"}})]
ORDER = (
    "`relevance`: by how likely the user is to choose it; `rating`: by rating; `lower_bound`: by the lower end "
    "of its 90 % interval. Default: `relevance` if the model has it, else `rating`."
)
QueryId = Annotated[str, BeforeValidator(clean)]
REPEATABLE = ("exclude", "only")  # in a query; of any other parameter that is given twice the last counts


class PredictParameters(BaseModel):
    """The parameters of `POST /predict`."""

    strict: Annotated[bool, Query(description="Answer 404 for an unknown user or item.")] = False


class ListParameters(BaseModel):
    """The parameters of `GET /users/{user}/top`."""

    n: ListLength = 10
    rank_by: Annotated[RankBy | None, Query(description=ORDER)] = None
    exclude_seen: Annotated[bool, Query(description="Leave out the items that the user has rated.")] = True
    exclude: Annotated[tuple[QueryId, ...], Query(description="Leave out these items too; repeatable.")] = ()
    only: Annotated[tuple[QueryId, ...] | None, Query(description="List only these items; repeatable.")] = None
    category: Category = None
    year_min: YearMin = None
    year_max: YearMax = None
    intervals: Annotated[
        bool, Query(description="Add `low` and `high` to each item: the ends of its 90 % interval.")
    ] = False
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False
