"""Parameters in paths and queries that several routes take, or that a plain route reads itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel

from app.api.schemas.common import Year
from app.engine.types import RankBy

MAX_QUERY = 256  # characters that are searched for
N = Annotated[int, Query(ge=1, description="How many; the service has an upper bound.")]
YearMin = Annotated[Year | None, Query(description="Choose from the items of this year and later ones.")]
YearMax = Annotated[Year | None, Query(description="Choose from the items of this year and earlier ones.")]
User = Annotated[str, Path(min_length=1, description="The user's id.", openapi_examples={"196": {"value": "196"}})]
Item = Annotated[str, Path(min_length=1, description="The item's id.", openapi_examples={"242": {"value": "242"}})]
ORDER = (
    "`relevance`: what the user is likely to choose; `rating`: by predicted rating; `lower_bound`: by the lower end "
    "of its 90 % interval. By default `relevance` where the model has it, else `rating`."
)


class PredictParameters(BaseModel):
    """Of `POST /predict`."""

    strict: Annotated[bool, Query(description="Answer 404 for an unknown user or item.")] = False


class ListParameters(BaseModel):
    """Of `GET /users/{user}/top`."""

    n: Annotated[int, Query(ge=1, description="How many items; the service has an upper bound.")] = 10
    rank_by: Annotated[RankBy | None, Query(description=ORDER)] = None
    exclude_seen: Annotated[bool, Query(description="Leave out what the user rated.")] = True
    exclude: Annotated[tuple[str, ...], Query(description="Leave out these items too; repeatable.")] = ()
    only: Annotated[tuple[str, ...] | None, Query(description="Choose from these items alone; repeatable.")] = None
    category: Annotated[str | None, Query(description="Choose from the items of this genre alone.")] = None
    year_min: YearMin = None
    year_max: YearMax = None
    intervals: Annotated[
        bool, Query(description="Say how sure the model is of each rating: `low` and `high`, of a 90 % interval.")
    ] = False
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False
