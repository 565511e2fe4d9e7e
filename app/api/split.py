"""Two versions at once: PUT and DELETE /models/split. Who is answered by which follows from the users' ids."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import Field

from app.api.deps import EngineDep
from app.api.models import NAME, Activated, Force, UserSplit
from app.api.openapi import problems
from app.api.plain import GuardedRoute
from app.api.schemas.requests import RequestModel
from app.engine.documents import ModelVersion
from models.checkpoint.manifest import VERSION_NAME
from models.registry.split import Split

router = APIRouter(tags=["models"], route_class=GuardedRoute)

TENTH = {"a tenth": {"value": {"version": "20261124T021910Z-textbook-6c8073", "share": 0.1}}}
Ended = Annotated[
    str | None, Query(description="The version that answers all users then; by default the current one.", **NAME)
]


class SplitRequest(RequestModel):
    """A version, and the share of the users that it answers."""

    version: Annotated[str, Field(pattern=f"^{VERSION_NAME.pattern}$", description="Name of a published version.")]
    share: Annotated[float, Field(gt=0, lt=1, strict=True, allow_inf_nan=False)]


class StartedSplit(UserSplit):
    """The split from now on; other workers follow within two seconds."""

    model_version: ModelVersion


@router.put(
    "/models/split", summary="Answer some users by another model", responses=problems(404, 409, 413, 422, 500, 503)
)
async def split(
    body: Annotated[SplitRequest, Body(openapi_examples=TENTH)], engine: EngineDep, force: Force = False
) -> StartedSplit:
    """Let a version answer a share of the users, beside the current one, in place of an earlier split.

    A user is always answered by the same version, by every worker and replica, also after a restart. The version is
    verified first; one that was not measured, was refused or is behind its baseline is a 409 unless `force` says so.
    """
    await engine.split.begin(Split(body.version, body.share), force=force)
    return StartedSplit(version=body.version, share=body.share, model_version=engine.versions.manifest.version)


@router.delete("/models/split", summary="End the split", responses=problems(404, 409, 413, 422, 500, 503))
async def end_split(engine: EngineDep, version: Ended = None, force: Force = False) -> Activated:
    """Let one version answer all users again: the current one, or that of the split, which becomes the current one.

    Where there is no split nothing is changed.
    """
    await engine.split.end(version, force=force)
    return Activated(model_version=engine.versions.manifest.version)
