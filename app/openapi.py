"""The OpenAPI document: problems under their own media type, which FastAPI cannot be told for a route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import PROBLEM_JSON
from app.gate import OPEN_PATHS
from app.schemas import Problem

DESCRIPTIONS = {
    401: "No key, or not one that is accepted.",
    404: "Unknown id.",
    409: "The version cannot be made the current one; nothing was changed.",
    413: "The request body is too large.",
    422: "The request is not valid; `errors` says where and why.",
    500: "A bug.",
    503: "No model is being served yet, the service is about to stop, or too much work is waiting; "
    "try again after `Retry-After` seconds.",
    504: "The answer took longer than a request may.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail with these statuses."""
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


class Service(FastAPI):
    """FastAPI whose document says what lies around it does: the media type of problems, and keys."""

    _outermost: ASGIApp | None = None

    def surround(self, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put `wrap(self)` before everything else, Starlette's own middleware too: that takes 5 µs a request."""
        self._outermost = wrap(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._outermost or super().__call__)(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    if path not in OPEN_PATHS:
                        _want_key(operation)
                    _declare_problems(operation)
        return super().openapi()


def _want_key(operation: dict[str, Any]) -> None:
    operation["security"] = [{"key": []}]
    schema = {"$ref": "#/components/schemas/Problem"}
    unauthorized = {"description": DESCRIPTIONS[401], "content": {"application/json": {"schema": schema}}}
    operation["responses"] = {"401": unauthorized} | operation["responses"]


def _declare_problems(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status >= "400":
            response["content"] = {PROBLEM_JSON: response["content"]["application/json"]}
