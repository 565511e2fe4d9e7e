"""What routes are handed: the values that the lifespan built."""

from __future__ import annotations

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from app.api.limits import Limits
from app.engine.engine import Engine
from app.observability.telemetry import Telemetry
from app.server.shutdown import Shutdown


class State(TypedDict):
    """The lifespan state."""

    engine: Engine
    limits: Limits
    telemetry: Telemetry
    shutdown: Shutdown


async def get_engine(request: Request) -> Engine:
    return cast("Engine", request.state.engine)


async def get_limits(request: Request) -> Limits:
    return cast("Limits", request.state.limits)


async def get_telemetry(request: Request) -> Telemetry:
    return cast("Telemetry", request.state.telemetry)


async def get_shutdown(request: Request) -> Shutdown:
    return cast("Shutdown", request.state.shutdown)


EngineDep = Annotated[Engine, Depends(get_engine)]
LimitsDep = Annotated[Limits, Depends(get_limits)]
TelemetryDep = Annotated[Telemetry, Depends(get_telemetry)]
ShutdownDep = Annotated[Shutdown, Depends(get_shutdown)]
