"""GET /items/{item}/ratings and /items/{item}/users: who has rated an item, and who would like it."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.deps import EngineDep, LimitsDep
from app.api.openapi import problems
from app.api.parameters import RATINGS_OF_ITEM, USERS_OF_ITEM, Item, N
from app.api.plain import GuardedRoute
from app.engine.documents import ItemRatings, LikelyUsers
from app.middleware.access import Access, needs

router = APIRouter(tags=["items"], route_class=GuardedRoute)


@router.get(RATINGS_OF_ITEM, summary="Count the ratings of an item", responses=problems(404, 413, 422, 500, 503, 504))
@needs(Access.CHANGE)
async def item_ratings(item: Item, engine: EngineDep, limits: LimitsDep, n: N = 10) -> ItemRatings:
    """Count all ratings that count of an item, by level, and list the latest.

    Every rating is read for it, so it needs an admin key where there are keys. 404 for an item without ratings that the
    model does not know.
    """
    limits.check_id(item, "path", "item")
    limits.check_list(n, "query", "n")
    return await engine.item_users.ratings(item, n)


@router.get(USERS_OF_ITEM, summary="List who would like an item", responses=problems(404, 413, 422, 500, 503, 504))
async def item_users(item: Item, engine: EngineDep, limits: LimitsDep, n: N = 10) -> LikelyUsers:
    """List the users who have not rated an item, those with the highest predicted rating first.

    They are users of the model, chosen by their fitted rows and ordered by what `POST /predict` gives for them now.
    """
    limits.check_id(item, "path", "item")
    limits.check_list(n, "query", "n")
    return await engine.item_users.likely(item, n)
