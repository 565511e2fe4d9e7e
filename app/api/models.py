"""GET /models, GET /models/current, POST /models/{version}/activate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path

from app.deps import EngineDep
from app.openapi import link, problems
from app.schemas import Activated, CurrentModel, PublishedModel, PublishedModels
from models.manifest import VERSION_NAME

router = APIRouter(tags=["models"])


@router.get(
    "/models",
    summary="The published models",
    responses=problems(413, 500, 503) | link("activate", "Serve the oldest.", version="/models/0/version"),
)
async def published(engine: EngineDep) -> PublishedModels:
    """Every published version that can be read, oldest first, and which one is being served."""
    serving = engine.manifest.version
    models = [
        PublishedModel(
            version=manifest.version,
            created_at=manifest.created_at,
            preset=manifest.trainer.preset,
            metrics=manifest.metrics,
            serving=manifest.version == serving,
        )
        for manifest in await engine.published()
    ]
    return PublishedModels(models=models, model_version=serving)


@router.post(
    "/models/{version}/activate",
    summary="Serve another published model",
    responses=problems(404, 409, 413, 422, 500, 503),
)
async def activate(
    version: Annotated[
        str,
        Path(
            pattern=f"^{VERSION_NAME.pattern}$",
            description="Name of a published version.",
            openapi_examples={"a version": {"value": "20261124T021910Z-textbook-6c8073"}},
        ),
    ],
    engine: EngineDep,
) -> Activated:
    """Make a version the current one, as a roll-back does. It is verified first; the old one answers meanwhile.

    The answer comes once this worker serves it; others follow within two seconds.
    """
    await engine.activate(version)
    return Activated(model_version=version)


@router.get(
    "/models/current",
    summary="The model being served",
    responses=problems(413, 500, 503) | link("activate", "Serve it again later.", version="/version"),
)
async def current(engine: EngineDep) -> CurrentModel:
    """Which model is being served, how it was fitted, on what, and how well it did."""
    manifest = engine.manifest
    return CurrentModel(
        version=manifest.version,
        created_at=manifest.created_at,
        age_seconds=max(0.0, (datetime.now(UTC) - manifest.created_at).total_seconds()),
        device=str(engine.place),
        shape=manifest.model,
        trainer=manifest.trainer,
        data=manifest.data,
        metrics=manifest.metrics,
    )
