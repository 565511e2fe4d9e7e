"""GET /settings: what the service runs with, for an admin. Changing it takes another start."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import EngineDep, SettingsDep
from app.api.openapi import problems
from app.api.plain import GuardedRoute
from app.engine.documents import ModelVersion
from app.middleware.access import Access, needs

router = APIRouter(tags=["operations"], route_class=GuardedRoute)


class Setting(BaseModel):
    """A setting as the service uses it."""

    model_config = ConfigDict(from_attributes=True)

    name: Annotated[str, Field(description="The variable that sets it.")]
    value: Annotated[str | None, Field(description="What the service uses, without secrets; null for nothing.")]
    given: Annotated[bool, Field(description="Whether it was set; if not, the value is that by default.")]
    meaning: Annotated[str, Field(description="What it is for.")]


class ServiceSettings(BaseModel):
    """Every setting of the service."""

    settings: list[Setting]
    model_version: ModelVersion


@router.get("/settings", summary="Show the settings of the service", responses=problems(413, 500, 503))
@needs(Access.CHANGE)
async def settings(engine: EngineDep, effective: SettingsDep) -> ServiceSettings:
    """Every setting with the value that the service uses. It needs an admin key where there are keys.

    Keys are counted, and URLs are without user, password and query.
    """
    found = [Setting.model_validate(setting) for setting in effective]
    return ServiceSettings(settings=found, model_version=engine.versions.manifest.version)
