"""GET /health/live and /health/ready."""

from __future__ import annotations

from fastapi import APIRouter

from app.deps import EngineDep
from app.openapi import problems
from app.schemas import Live, Ready

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", summary="Does the process answer?", responses=problems(413, 500))
async def live() -> Live:
    """Always 200. Restart the process when this does not answer."""
    return Live()


@router.get("/ready", summary="Is a model being served?", responses=problems(413, 500, 503))
async def ready(engine: EngineDep) -> Ready:
    """200 with the version being served, or 503. Send no traffic before it is 200."""
    return Ready(model_version=engine.manifest.version)
