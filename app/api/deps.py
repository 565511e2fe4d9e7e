"""The dependencies of routes: values that the lifespan has made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypedDict

from fastapi import Depends, Request

from app.api.limits import Limits
from app.effective import Effective
from app.engine.engine import Engine
from app.observability.telemetry import Telemetry
from app.server.shutdown import Shutdown


class State(TypedDict):
    """The lifespan state."""

    engine: Engine
    limits: Limits
    telemetry: Telemetry
    shutdown: Shutdown
    settings: Sequence[Effective]


def _of_state(name: str) -> Callable[[Request], Awaitable[Any]]:
    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return get


EngineDep = Annotated[Engine, Depends(_of_state("engine"))]
LimitsDep = Annotated[Limits, Depends(_of_state("limits"))]
TelemetryDep = Annotated[Telemetry, Depends(_of_state("telemetry"))]
SettingsDep = Annotated[Sequence[Effective], Depends(_of_state("settings"))]
ShutdownDep = Annotated[Shutdown, Depends(_of_state("shutdown"))]
