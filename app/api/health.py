"""GET /health/live and /health/ready."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.deps import EngineDep, ShutdownDep
from app.api.openapi import problems
from app.api.schemas.models import FailedLoad, Live, Ready
from app.engine.model_watcher import Failure
from app.errors import StoppingError
from app.middleware.access import Access, needs

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", summary="Does the process answer?", responses=problems(413, 500))
@needs(Access.PROBE)
async def live() -> Live:
    """Always 200. Restart the process when this does not answer."""
    return Live()


@router.get("/ready", summary="Is a model being served?", responses=problems(413, 500, 503))
@needs(Access.PROBE)
async def ready(engine: EngineDep, shutdown: ShutdownDep) -> Ready:
    """200 with the version being served, or 503: no model yet, or about to stop. Send traffic while it is 200.

    A version that is wanted and could not be loaded is in `failed_load`; the one before it goes on being served.
    """
    if shutdown.begun:
        raise StoppingError("the service is about to stop")
    return Ready(model_version=engine.versions.manifest.version, failed_load=_failed(engine.versions.failure))


def _failed(failure: Failure | None) -> FailedLoad | None:
    return None if failure is None else FailedLoad(version=failure.version, reason=failure.reason, since=failure.since)
