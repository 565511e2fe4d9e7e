"""GET /health/live, GET /health/ready and GET /metrics, for those who operate the service."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.api.deps import EngineDep, ShutdownDep, TelemetryDep
from app.api.openapi import problems
from app.api.plain import GuardedRoute
from app.engine.documents import FailedLoad, ModelVersion
from app.errors import StoppingError
from app.middleware.access import Access, needs

UNTOLD = "a version cannot be loaded; a request with an API key is told which and why"

router = APIRouter(route_class=GuardedRoute)


class Live(BaseModel):
    """The process is alive."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """A model is being served."""

    status: Literal["ready"] = "ready"
    model_version: ModelVersion
    failed_load: FailedLoad | None = None


@router.get("/health/live", tags=["health"], summary="Check that the process is alive", responses=problems(413, 500))
@needs(Access.PROBE)
async def live() -> Live:
    """Always 200. Restart the process if it does not answer."""
    return Live()


@router.get(
    "/health/ready", tags=["health"], summary="Check that a model is being served", responses=problems(413, 500, 503)
)
@needs(Access.PROBE)
async def ready(request: Request, engine: EngineDep, shutdown: ShutdownDep) -> Ready:
    """200 with the version being served, or 503: no model yet, or shutting down. Send traffic only while it is 200.

    `failed_load` is a version that could not be loaded although it should be served; the previous one still answers.
    Its name and the reason are only in answers to those who may read: send a key if the service has keys.
    """
    if shutdown.begun:
        raise StoppingError("the service is shutting down")
    failed = engine.versions.failure
    if failed is not None and not request.app.guard.knows(request.scope):
        failed = failed.model_copy(update={"version": None, "reason": UNTOLD})
    return Ready(model_version=engine.versions.manifest.version, failed_load=failed)


@router.get(
    "/metrics",
    tags=["operations"],
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=problems(413, 500) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(telemetry: TelemetryDep) -> Response:
    """The metrics of all workers, summed, in Prometheus' text format. `docs/operations.md` lists them."""
    telemetry.flush()
    return Response(await asyncio.to_thread(telemetry.render), media_type=CONTENT_TYPE_LATEST)
