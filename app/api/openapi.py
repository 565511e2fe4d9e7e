"""The OpenAPI document: it adds the media type of problems, which a route of FastAPI cannot declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.plain import BODY_METHODS
from app.api.words import describe
from app.errors import PROBLEM_JSON, Problem
from app.middleware.access import Access, Guard, RouteNeeds, needs

DOCUMENT = "openapi.json"
DESCRIPTIONS = {
    400: "The path or the query is not UTF-8.",
    401: "The API key is missing or was not accepted.",
    403: "The API key does not allow this request.",
    404: "The user, item, version or report does not exist.",
    409: "The request conflicts with the state of the service: the version cannot be served, or the idempotency key "
    "was used for another request. Nothing was changed.",
    415: "The body is compressed; send it without `Content-Encoding`.",
    413: "The request body is too large.",
    429: "The rate limit of the API key is exceeded; try again after `Retry-After` seconds.",
    422: "The request is not valid; `errors` says where and why.",
    500: "A bug.",
    501: "The service has no ratings store.",
    503: "No model is being served yet, the service is shutting down or overloaded, or the ratings store is "
    "unreachable; try again after `Retry-After` seconds.",
    504: "The request took too long.",
}
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
SECONDS: dict[str, Any] = {"description": "Seconds to wait.", "required": True, "schema": NUMBER}
BEARER: dict[str, Any] = {"description": "`Bearer`.", "required": True, "schema": TEXT}
REQUEST_ID: dict[str, Any] = {"description": "Names the request in logs.", "required": True, "schema": TEXT}
IDENTITY: dict[str, Any] = {"description": "`identity`.", "required": True, "schema": TEXT}
HEADERS = {
    "401": {"WWW-Authenticate": BEARER},
    "415": {"Accept-Encoding": IDENTITY},
    "429": {"Retry-After": SECONDS},
    "503": {"Retry-After": SECONDS},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail with these statuses."""
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


def link(operation: str, description: str, **parameters: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route whose answer has values, at JSON pointers, for the parameters of another route."""
    found = {name: f"$response.body#{pointer}" for name, pointer in parameters.items()}
    return {200: {"links": {operation: {"operationId": operation, "description": description, "parameters": found}}}}


def links(*given: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Several links of one answer."""
    return {200: {"links": {name: found for one in given for name, found in one[200]["links"].items()}}}


class Service(FastAPI):
    """FastAPI with layers before its own. Its document describes what the layers answer: refusals, ids, problems.

    Attributes:
        layers: middleware that runs before Starlette's own, which takes 5 µs a request.
        needs: what each request needs; the layers refuse a request that does not have it.
        guard: says whether a request may be asked.
    """

    layers: Callable[[ASGIApp], ASGIApp]
    needs: RouteNeeds
    guard: Guard

    def build_middleware_stack(self) -> ASGIApp:
        own = super().build_middleware_stack()

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            scope["app"] = self  # without it, Starlette's router answers errors itself, in plain text
            await own(scope, receive, send)

        return self.layers(routed)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            describe(document["components"]["schemas"])
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _complete(method.upper(), operation, self.needs.of(method.upper(), path).access)
        return super().openapi()


def _complete(method: str, operation: dict[str, Any], access: Access) -> None:
    """Declare the refusals of the layers, the media type of problems, and headers."""
    statuses = {400, 415, 422} if method in BODY_METHODS else {400, 422}
    if access not in (Access.PROBE, Access.OPEN):
        operation["security"] = [{"key": []}]
        statuses |= {401, 429, 503} if access is Access.READ else {401, 403, 429, 503}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {str(status): {"description": DESCRIPTIONS[status], "content": content} for status in statuses}
    operation["responses"] = dict(sorted((refusals | operation["responses"]).items()))
    for status, response in operation["responses"].items():
        if status >= "400":
            response["content"] = {PROBLEM_JSON: response["content"]["application/json"]}
        response["headers"] = {"X-Request-ID": REQUEST_ID} | HEADERS.get(status, {})


@needs(Access.OPEN)
async def document(request: Request) -> Response:
    return JSONResponse(request.app.openapi())


router = APIRouter()
router.add_route(f"/{DOCUMENT}", document, include_in_schema=False)
