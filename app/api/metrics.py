"""GET /metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from app.api.deps import TelemetryDep
from app.api.openapi import problems
from app.observability.telemetry import MEDIA_TYPE

router = APIRouter(tags=["operations"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=problems(413, 500) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(telemetry: TelemetryDep) -> Response:
    """The metrics of all workers together, in Prometheus' text format. `docs/operations.md` lists them."""
    telemetry.flush()
    return Response(await asyncio.to_thread(telemetry.render), media_type=MEDIA_TYPE)
