"""Names the spans of plain routes: FastAPI names a span when its own router has chosen a route."""

from __future__ import annotations

from starlette.types import Scope

SPAN = "fastapi.telemetry"  # in the scope of a request that FastAPI reports to OpenTelemetry


def name_span(scope: Scope, route: str) -> None:
    """Give the request's span and metrics the template of its route, as FastAPI does."""
    request = scope[SPAN]
    request.route = route
    if request.span is not None:
        request.span.set_attribute("http.route", route)
        request.span.update_name(f"{request.span_method} {route}")
