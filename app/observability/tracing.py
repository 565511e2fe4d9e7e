"""Spans of requests that the front door answers: FastAPI names a span when its router has chosen a route."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.gate import ROUTE


class NamedSpans:
    """ASGI middleware between FastAPI's OpenTelemetry and the gate."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":  # once the last part is sent the span has ended
                _name(scope)
            await send(message)

        await self.app(scope, receive, named)


def _name(scope: Scope) -> None:
    request = scope.get("fastapi.telemetry")
    if request is not None and request.route is None and ROUTE in scope:
        request.route = scope[ROUTE]
        if request.span is not None:
            request.span.set_attribute("http.route", request.route)
            request.span.update_name(f"{request.span_method} {request.route}")
