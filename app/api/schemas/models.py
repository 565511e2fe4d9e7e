"""Published models: the current one, its learning curve, its health."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.api.schemas.common import AnswerModel, ModelVersion
from models.checkpoint.manifest import DataRecord, GateRecord, ModelShape, TrainerRecord

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
    """A published version; `serving` says whether the one who answers serves it."""

    version: str
    created_at: datetime
    preset: str
    gate: GateRecord
    metrics: Mapping[str, float | None]
    report: HasReport
    serving: bool


class PublishedModels(AnswerModel):
    """Every published version that can be read, oldest first."""

    models: list[PublishedModel]
    model_version: ModelVersion


class Pass(BaseModel):
    """What was known after a pass of the fit; `test_rmse` is null where it was not measured."""

    number: int
    figures: Mapping[str, float]
    test_rmse: float | None
    fit_seconds: float


class History(AnswerModel):
    """The learning curve of a version."""

    version: str
    passes: list[Pass]
    model_version: ModelVersion


class Activated(AnswerModel):
    """The version that was made the current one; other workers follow within two seconds."""

    model_version: ModelVersion


class FailedLoad(BaseModel):
    """A version that is wanted and could not be served; null where `CURRENT` names none."""

    version: str | None
    reason: str
    since: datetime


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(AnswerModel):
    """A model is being served."""

    status: Literal["ready"] = "ready"
    model_version: ModelVersion
    failed_load: FailedLoad | None = None
