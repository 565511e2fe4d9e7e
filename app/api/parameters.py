"""Parameters in paths and queries. An id in a path may hold any character, slashes and line ends too.

In a path with two ids, and in one that changes an item or deletes a user, each id is one segment; its slashes are
percent-encoded. Servers decode them before routing, so this module looks them up in what the client sent. Other paths
with an id accept plain slashes too, and are tried after these.
"""

from __future__ import annotations

from functools import partial
from string import printable
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator
from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope

from app.api.schemas.requests import MAX_NAMES, MAX_TEXT, Year
from app.engine.types import RankBy
from app.errors import UndecodableTargetError
from app.middleware.access import SLASH
from models.checkpoint.manifest import VERSION_NAME
from models.ids import clean


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
    if path.isascii() and query.isascii() and b"%" not in path and b"%" not in query:
        return
    try:
        unquote_to_bytes(path + b"?" + query).decode()
    except UnicodeDecodeError:
        raise UndecodableTargetError from None
    if not query.isascii():
        scope["query_string"] = quote(query, safe=printable).encode()


register_url_convertor("id", IdConvertor())
register_url_convertor("segment", SegmentConvertor())

BECAUSE = "/users/{user:segment}/because/{item:segment}"
RATING = "/users/{user:segment}/ratings/{item:segment}"
RATINGS = "/users/{user:segment}/ratings"
EXPORT = "/users/{user:segment}/export"
USER = "/users/{user:segment}"
SIMILAR = "/items/{item:segment}/similar"
RATINGS_OF_ITEM = "/items/{item:segment}/ratings"
USERS_OF_ITEM = "/items/{item:segment}/users"
TOP = "/users/{user:id}/top"
ITEM = "/items/{item:id}"
CHANGED_ITEM = "/items/{item:segment}"

IdPath = partial(Path, min_length=1, pattern=r"\S")  # the pattern is for the document: blanks have gone before
MAX_QUERY = MAX_TEXT
N = Annotated[int, Query(ge=1, description="Maximum number of results; the service has an upper limit.")]
ListLength = Annotated[int, Query(ge=1, description="Number of items; the service has an upper limit.")]
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
NAMES = "List only items of this {0}. Of several names separated by commas an item has any; repeated, each must hold."
Genre = Annotated[tuple[str, ...], Query(max_length=MAX_NAMES, description=NAMES.format("genre"))]
Label = Annotated[tuple[str, ...], Query(max_length=MAX_NAMES, description=NAMES.format("label"))]
YearMin = Annotated[Year | None, Query(description="List only items of this year and later.")]
YearMax = Annotated[Year | None, Query(description="List only items of this year and earlier.")]
User = Annotated[str, IdPath(description="The user's id.", openapi_examples={"196": {"value": "196"}})]
Item = Annotated[str, IdPath(description="The item's id.", openapi_examples={"242": {"value": "242"}})]
ORDER = (
    "`relevance`: by how likely the user is to choose it; `rating`: by rating; `lower_bound`: by the lower end "
    "of the 90 % interval of its expectation. Default: `relevance` if the model has it, else `rating`."
)
ModelVersion = Annotated[
    str | None,
    Query(
        pattern=f"^{VERSION_NAME.pattern}$",
        description="The version that is to answer: the current one, or that of a split. Default: that of the user.",
    ),
]
QueryId = Annotated[str, BeforeValidator(clean)]
# In a query; of any other parameter that is given twice the last counts.
REPEATABLE = ("exclude", "only", "genre", "label")


class PredictParameters(BaseModel):
    """The parameters of `POST /predict`."""

    strict: Annotated[bool, Query(description="Answer 404 for an unknown user or item.")] = False
    intervals: Intervals = False
    model_version: ModelVersion = None


class RecommendParameters(BaseModel):
    """Of `POST /recommend`."""

    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False
    model_version: ModelVersion = None


class ListParameters(BaseModel):
    """The parameters of `GET /users/{user}/top`."""

    n: ListLength = 10
    offset: Offset = 0
    rank_by: Annotated[RankBy | None, Query(description=ORDER)] = None
    exclude_seen: Annotated[bool, Query(description="Leave out the items that the user has rated.")] = True
    exclude: Annotated[tuple[QueryId, ...], Query(description="Leave out these items too; repeatable.")] = ()
    only: Annotated[tuple[QueryId, ...] | None, Query(description="List only these items; repeatable.")] = None
    genre: Genre = ()
    label: Label = ()
    year_min: YearMin = None
    year_max: YearMax = None
    intervals: Intervals = False
    diversity: Diversity = 0.0
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False
    model_version: ModelVersion = None
