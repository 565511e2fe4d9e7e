"""GET /users/{user}/top. An id may hold any character, slashes too."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.paths import TOP
from app.deps import EngineDep, LimitsDep
from app.openapi import problems
from app.schemas import ListedItem, RankBy, TopItems

router = APIRouter(tags=["users"])

EXAMPLES = {
    "known": {"summary": "A known user", "value": "196"},
    "unknown": {"summary": "A user nobody knows: popular items", "value": "nobody"},
}


@router.get(TOP, summary="What to show a user", responses=problems(404, 413, 422, 500, 503))
async def top(
    user: Annotated[str, Path(min_length=1, description="The user's id.", openapi_examples=EXAMPLES)],
    engine: EngineDep,
    limits: LimitsDep,
    n: Annotated[int, Query(ge=1, description="How many items; the service has an upper bound.")] = 10,
    rank_by: Annotated[RankBy, Query(description="`rating`: by predicted rating.")] = "rating",
    exclude_seen: Annotated[bool, Query(description="Leave out what the user rated in the training data.")] = True,
    strict: Annotated[bool, Query(description="Answer 404 for an unknown user.")] = False,
) -> TopItems:
    """List the best items for a user, ordered by the predicted rating before it is clipped to the scale.

    An unknown user is shown the most rated items, and `source` says `popular`.
    """
    limits.check_id(user, "path", "user")
    limits.check_list(n)
    answer = await engine.top(user, n, exclude_seen=exclude_seen, strict=strict)
    items = [ListedItem.model_validate(item, from_attributes=True) for item in answer.items]
    return TopItems(user=user, source=answer.source, rank_by=rank_by, items=items, model_version=answer.version)
