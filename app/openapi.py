"""The OpenAPI document: problems under their own media type, which FastAPI cannot be told for a route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from app.errors import PROBLEM_JSON
from app.schemas import Problem

DESCRIPTIONS = {
    404: "Unknown id.",
    413: "The request body is too large.",
    422: "The request is not valid; `errors` says where and why.",
    500: "A bug.",
    503: "No model is being served yet; try again after `Retry-After` seconds.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail with these statuses."""
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


class Service(FastAPI):
    """FastAPI whose document says application/problem+json where the service does."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            for content in _error_contents(super().openapi()):
                content[PROBLEM_JSON] = content.pop("application/json")
        return super().openapi()


def _error_contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    yield response["content"]
