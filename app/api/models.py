"""Versions: GET /models, /current and /compare, going back, and of one: its curve, its report, making it current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.responses import HTMLResponse

from app.api.deps import EngineDep
from app.api.openapi import link, links, problems
from app.api.plain import GuardedRoute
from app.engine.documents import ModelVersion
from app.middleware.access import Access, needs
from app.middleware.browsers import REPORT as REPORT_HEADERS
from models.checkpoint.files import HISTORY, REPORT, REPORT_PAGE
from models.checkpoint.manifest import VERSION_NAME, DataRecord, GateRecord, Manifest, ModelShape, TrainerRecord
from models.comparison import Verdict
from models.errors import CheckpointCorruptError
from models.registry.last_fit import LastFit

router = APIRouter(tags=["models"], route_class=GuardedRoute)

NAME: Mapping[str, Any] = {
    "pattern": f"^{VERSION_NAME.pattern}$",
    "openapi_examples": {"a version": {"value": "20261124T021910Z-textbook-6c8073"}},
}
Version = Annotated[str, Path(description="Name of a published version.", **NAME)]
VersionQuery = Annotated[str, Query(description="Name of a published version.", **NAME)]
AgainstQuery = Annotated[str | None, Query(description="Another one; by default the one being served.", **NAME)]
Force = Annotated[
    bool, Query(description="Serve it even if it was not measured, was refused or is behind its baseline.")
]
OF_VERSION = problems(404, 413, 422, 500, 503)
HasReport = Annotated[bool, Field(description="Whether `GET /models/{version}/report` has a page.")]


class CurrentModel(BaseModel):
    """The model being served."""

    version: str
    created_at: datetime
    age_seconds: float
    device: str
    shape: ModelShape
    trainer: TrainerRecord
    data: DataRecord
    gate: GateRecord
    metrics: Mapping[str, float | None]
    report: HasReport


class PublishedModel(BaseModel):
    """A published version; `serving` says whether it is the current one of the worker that answers."""

    version: str
    created_at: datetime
    preset: str
    gate: GateRecord
    metrics: Mapping[str, float | None]
    report: HasReport
    serving: bool
    concern: Annotated[str | None, Field(description="Why it is served only by force; null where it is not.")]


class UserSplit(BaseModel):
    """A version that answers a share of the users beside the current one."""

    version: str
    share: float


class PublishedModels(BaseModel):
    """Every published version that can be read, oldest first; `previous` is where a roll-back goes to.

    `split` is the one that the worker that answers serves; null without one.
    """

    models: list[PublishedModel]
    previous: str | None
    split: UserSplit | None
    model_version: ModelVersion


class ComparedModels(BaseModel):
    """The RMSE of two versions on the same held-out ratings, which neither was fitted on.

    `low` and `high` bound `difference`, `rmse` less `rmse_against`, with 95 % confidence. `verdict` says whether
    `version` predicts better than `against`.
    """

    version: str
    against: str
    ratings: int
    users: int
    rmse: float
    rmse_against: float
    difference: float
    low: float
    high: float
    verdict: Verdict
    model_version: ModelVersion


class LastFitAnswer(BaseModel):
    """How the last fit ended, as its job noted it in the checkpoint directory; `fit` is null where none is noted."""

    fit: LastFit | None
    model_version: ModelVersion


class Pass(BaseModel):
    """The figures after a pass of the fit; `test_rmse` is null if it was not measured."""

    number: int
    figures: Mapping[str, float]
    test_rmse: float | None
    fit_seconds: float


class History(BaseModel):
    """The learning curve of a version."""

    version: str
    passes: list[Pass]
    model_version: ModelVersion


class Activated(BaseModel):
    """The version that was made the current one; other workers follow within two seconds."""

    model_version: ModelVersion


PASSES = TypeAdapter(list[Pass])


@router.get(
    "/models",
    summary="List the published models",
    responses=problems(413, 500, 503)
    | links(
        link("activate", "Activate the oldest version.", version="/models/0/version"),
        link("compare", "Compare it with the version being served.", version="/models/0/version"),
    ),
)
async def models(engine: EngineDep) -> PublishedModels:
    """List every published version that can be read, oldest first, and say which one is being served."""
    serving = engine.versions.manifest.version
    found = [
        PublishedModel(
            version=manifest.version,
            created_at=manifest.created_at,
            preset=manifest.trainer.preset,
            gate=manifest.gate,
            metrics=manifest.metrics,
            report=_has_report(manifest),
            serving=manifest.version == serving,
            concern=manifest.concern,
        )
        for manifest in await engine.versions.published()
    ]
    split = engine.split.current
    return PublishedModels(
        models=found,
        previous=await engine.versions.previous(),
        split=None if split is None else UserSplit(**split._asdict()),
        model_version=serving,
    )


@router.get(
    "/models/compare",
    summary="Which of two models predicts better",
    responses=problems(404, 409, 413, 422, 500, 503),
)
async def compare(version: VersionQuery, engine: EngineDep, against: AgainstQuery = None) -> ComparedModels:
    """Compare two versions on the ratings that they were measured by and that neither was fitted on.

    Figures of `GET /models` are of the ratings that each version was measured by, so they do not compare. Both
    versions are read and verified for it, which takes as long as loading them.
    """
    serving = engine.versions.manifest.version
    found = await engine.versions.compare(version, against or serving)
    return ComparedModels(version=version, against=against or serving, **asdict(found), model_version=serving)


@router.post(
    "/models/rollback",
    summary="Serve the model that was served before",
    responses=problems(409, 413, 422, 500, 503),
)
async def rollback(engine: EngineDep, force: Force = False) -> Activated:
    """Make the version current that was served before the current one. It is verified first.

    A version that was published but never served is passed over, and so is one that is served only by force.
    """
    return Activated(model_version=await engine.versions.roll_back(force=force))


@router.post(
    "/models/{version}/activate",
    summary="Activate a published model",
    responses=problems(404, 409, 413, 422, 500, 503),
)
async def activate(version: Version, engine: EngineDep, force: Force = False) -> Activated:
    """Make a version the current one. It is verified first; the old one answers meanwhile.

    The answer comes once this worker serves it; others follow within two seconds. A version that was not measured, was
    refused or is behind its baseline is a 409 unless `force` says so.
    """
    await engine.versions.activate(version, force=force)
    return Activated(model_version=version)


@router.get("/models/{version}/history", summary="Show the learning curve of a model", responses=OF_VERSION)
async def history(version: Version, engine: EngineDep) -> History:
    """The learning curve of a version: the figures after each pass of its fit."""
    content = await engine.versions.report(version, HISTORY)
    try:
        passes = PASSES.validate_json(content)
    except ValidationError:
        raise CheckpointCorruptError(f"version {version}: {HISTORY} is not a learning curve") from None
    return History(version=version, passes=passes, model_version=engine.versions.manifest.version)


@router.get(
    "/models/{version}/report",
    summary="Show the training report of a model",
    response_class=Response,
    responses=OF_VERSION | {200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
@needs(Access.READ, REPORT_HEADERS)
async def report(version: Version, engine: EngineDep) -> Response:
    """The training report that was published with a version, one HTML page. 404 if there is none."""
    return HTMLResponse(await engine.versions.report(version, REPORT_PAGE))


@router.get(
    "/models/current",
    summary="Describe the model being served",
    responses=problems(413, 500, 503)
    | links(
        link("activate", "Activate this version again.", version="/version"),
        link("history", "The learning curve of the model.", version="/version"),
        link("report", "The training report of the model.", version="/version"),
    ),
)
async def current_model(engine: EngineDep) -> CurrentModel:
    """The model being served: how it was fitted, on which data, and its metrics."""
    manifest = engine.versions.manifest
    return CurrentModel(
        version=manifest.version,
        created_at=manifest.created_at,
        age_seconds=max(0.0, (datetime.now(UTC) - manifest.created_at).total_seconds()),
        device=str(engine.versions.placement),
        shape=manifest.model,
        trainer=manifest.trainer,
        data=manifest.data,
        gate=manifest.gate,
        metrics=manifest.metrics,
        report=_has_report(manifest),
    )


@router.get("/models/last-fit", summary="Show how the last fit ended", responses=problems(413, 500, 503))
@needs(Access.CHANGE)
async def last_fit(engine: EngineDep) -> LastFitAnswer:
    """How the last fit ended, why if nothing was published, and when the next begins if the job repeats it.

    It needs an admin key where there are keys: a reason may name files and hosts.
    """
    return LastFitAnswer(fit=await engine.versions.last_fit(), model_version=engine.versions.manifest.version)


def _has_report(manifest: Manifest) -> bool:
    return f"{REPORT}/{REPORT_PAGE}" in manifest.files
