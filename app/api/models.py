"""GET /models/current."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter

from app.deps import EngineDep
from app.openapi import problems
from app.schemas import CurrentModel

router = APIRouter(tags=["models"])


@router.get("/models/current", summary="The model being served", responses=problems(413, 500, 503))
async def current(engine: EngineDep) -> CurrentModel:
    """Which model is being served, how it was fitted, on what, and how well it did."""
    manifest = engine.manifest
    return CurrentModel(
        version=manifest.version,
        created_at=manifest.created_at,
        age_seconds=(datetime.now(UTC) - manifest.created_at).total_seconds(),
        device=str(engine.device),
        shape=manifest.model,
        trainer=manifest.trainer,
        data=manifest.data,
        metrics=manifest.metrics,
    )
