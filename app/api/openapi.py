"""The OpenAPI document: problems under their own media type, which FastAPI cannot be told for a route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.schemas import Problem
from app.errors import PROBLEM_JSON
from app.middleware.gate import OPEN_PATHS, changes

DESCRIPTIONS = {
    401: "No key, or not one that is accepted.",
    403: "The key does not allow that.",
    404: "There is no such id, version or report.",
    409: "It does not go with what is there: a version that cannot be served, or a request key that was used for "
    "something else. Nothing was changed.",
    413: "The request body is too large.",
    429: "More requests a second than a key allows; try again after `Retry-After` seconds.",
    422: "The request is not valid; `errors` says where and why.",
    500: "A bug.",
    501: "The service keeps no ratings.",
    503: "No model is being served yet, the service is about to stop, too much work is waiting, or ratings cannot be "
    "stored or read just now; "
    "try again after `Retry-After` seconds.",
    504: "The answer took longer than a request may.",
}
SECONDS: dict[str, Any] = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer"}}
BEARER: dict[str, Any] = {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}}
REQUEST_ID: dict[str, Any] = {
    "description": "Names the request in logs.",
    "required": True,
    "schema": {"type": "string"},
}
HEADERS = {"401": {"WWW-Authenticate": BEARER}, "429": {"Retry-After": SECONDS}, "503": {"Retry-After": SECONDS}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail with these statuses."""
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


def link(operation: str, description: str, **parameters: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route whose answer names what another one can be asked for, by JSON pointer into it."""
    found = {name: f"$response.body#{pointer}" for name, pointer in parameters.items()}
    return {200: {"links": {operation: {"operationId": operation, "description": description, "parameters": found}}}}


def links(*given: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Several of those that `link` makes."""
    return {200: {"links": {name: found for one in given for name, found in one[200]["links"].items()}}}


class Service(FastAPI):
    """FastAPI whose document says what lies around it does: the media type of problems, and keys."""

    _outermost: ASGIApp | None = None

    def surround(self, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put `wrap(self)` before everything else, Starlette's own middleware too: that takes 5 µs a request."""
        self._outermost = wrap(self._outermost or super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._outermost or super().__call__)(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if path not in OPEN_PATHS:
                        _guard(method, path, operation)
                    _declare_problems(operation)
                    _declare_headers(operation)
        return super().openapi()


def _guard(method: str, path: str, operation: dict[str, Any]) -> None:
    """What the gate may answer before the operation is asked."""
    operation["security"] = [{"key": []}]
    statuses = (401, 403, 429, 503) if changes(method.upper(), path) else (401, 429, 503)
    schema = {"$ref": "#/components/schemas/Problem"}
    refusals = {
        str(status): {"description": DESCRIPTIONS[status], "content": {"application/json": {"schema": schema}}}
        for status in statuses
    }
    operation["responses"] = dict(sorted((refusals | operation["responses"]).items()))


def _declare_problems(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status >= "400":
            response["content"] = {PROBLEM_JSON: response["content"]["application/json"]}


def _declare_headers(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        response["headers"] = {"X-Request-ID": REQUEST_ID} | HEADERS.get(status, {})
