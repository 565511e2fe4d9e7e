"""GET /quality: how good the model is on the ratings that come in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.deps import EngineDep
from app.api.openapi import problems
from app.api.plain import GuardedRoute
from app.engine.documents import Quality
from app.ratings.live_error import KEPT_DAYS

router = APIRouter(tags=["models"], route_class=GuardedRoute)
Days = Annotated[int, Query(ge=1, le=KEPT_DAYS, description="How many days back.")]


@router.get("/quality", summary="How good the model is on new ratings", responses=problems(413, 422, 500, 501, 503))
async def quality(engine: EngineDep, days: Days = 7) -> Quality:
    """The errors of predictions for ratings that came in, by version and by what the predictions rest on.

    Each new rating is compared with what was predicted before it, a second later at most. A rating that replaces
    another one does not count, and neither does one that the model was fitted on.
    """
    return await engine.live_errors.quality(days)
