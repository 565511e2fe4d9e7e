"""Plain routes: answered before FastAPI's router, which takes 250 µs to find a route and to solve its dependencies.

A plain route is one ASGI endpoint, for every form of its request. Its signature is what FastAPI documents; the endpoint
validates with the models that stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.paths import decode_segments
from app.errors import answer_error
from app.observability.telemetry import ROUTE
from app.observability.tracing import SPAN, name_span
from models.errors import RatecastError


class PlainRoute(APIRoute):
    """A route that FastAPI documents, and `endpoint` answers.

    Args:
        method, path: of its requests.
        endpoint: finds the ids of the path in `scope["path_params"]`. It raises RatecastError or
            RequestValidationError, or sends an answer.
        signature: a function that is never called: its parameters are documented, its name is the operation's id.
        documentation: as for any route of FastAPI.
    """

    def __init__(
        self, method: str, path: str, endpoint: ASGIApp, signature: Callable[..., Any], **documentation: Any
    ) -> None:
        super().__init__(
            path, signature, methods=[method], generate_unique_id_function=lambda route: route.name, **documentation
        )
        self.method = method
        self.app = endpoint  # what FastAPI's router finds too: see `PlainRoutes`


class PlainRoutes:
    """ASGI middleware: answers the requests of plain routes.

    An id with a slash in it may also be the path of another route. Which one it is, FastAPI's router knows by the order
    of all routes; it leads to the same endpoint.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[PlainRoute]) -> None:
        self._app = app
        self._of_path = {(route.method, route.path): route for route in routes if not route.param_convertors}
        self._of_template: dict[str, list[PlainRoute]] = {}
        for route in routes:
            if route.param_convertors:
                self._of_template.setdefault(route.method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = None
        if scope["type"] == "http":
            route = self._of_path.get((scope["method"], scope["path"])) or self._match(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        scope[ROUTE] = route.path
        if SPAN in scope:
            name_span(scope, route.path_format)
        try:
            await route.app(scope, receive, send)
        except (RatecastError, RequestValidationError) as error:
            await answer_error(error)(scope, receive, send)

    def _match(self, scope: Scope) -> PlainRoute | None:
        """The route whose template matches the path, with the ids in the path put into the scope."""
        encoded = b"%2" in (scope.get("raw_path") or b"") and decode_segments(scope)
        if scope.get("root_path"):
            return None
        path = scope["path"]
        for route in self._of_template.get(scope["method"], ()):
            match = route.path_regex.match(path)
            if match is None:
                continue
            for id_ in match.groups():
                if "/" in id_:
                    return None
            ids = match.groupdict()
            if encoded:
                ids = {name: route.param_convertors[name].convert(id_) for name, id_ in ids.items()}
            scope["path_params"] = ids
            return route
        return None
