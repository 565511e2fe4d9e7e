"""For those who operate the service: GET /health/live, GET /health/ready and GET /metrics."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.api.deps import EngineDep, ShutdownDep, TelemetryDep
from app.api.openapi import problems
from app.api.plain import GuardedRoute
from app.engine.documents import FailedLoad, ModelVersion
from app.errors import StoppingError
from app.middleware.access import Access, needs

router = APIRouter(route_class=GuardedRoute)


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """A model is being served."""

    status: Literal["ready"] = "ready"
    model_version: ModelVersion
    failed_load: FailedLoad | None = None


@router.get("/health/live", tags=["health"], summary="Does the process answer?", responses=problems(413, 500))
@needs(Access.PROBE)
async def live() -> Live:
    """Always 200. Restart the process when this does not answer."""
    return Live()


@router.get("/health/ready", tags=["health"], summary="Is a model being served?", responses=problems(413, 500, 503))
@needs(Access.PROBE)
async def ready(engine: EngineDep, shutdown: ShutdownDep) -> Ready:
    """200 with the version being served, or 503: no model yet, or about to stop. Send traffic while it is 200.

    A version that is wanted and could not be loaded is in `failed_load`; the one before it goes on being served.
    """
    if shutdown.begun:
        raise StoppingError("the service is about to stop")
    return Ready(model_version=engine.versions.manifest.version, failed_load=engine.versions.failure)


@router.get(
    "/metrics",
    tags=["operations"],
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=problems(413, 500) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(telemetry: TelemetryDep) -> Response:
    """The metrics of all workers together, in Prometheus' text format. `docs/operations.md` lists them."""
    telemetry.flush()
    return Response(await asyncio.to_thread(telemetry.render), media_type=CONTENT_TYPE_LATEST)
