"""The OpenAPI document and its page: problems have their own media type, which FastAPI cannot be told for a route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.plain import BODY_METHODS
from app.errors import PROBLEM_JSON, Problem
from app.middleware.access import Access, Guard, RouteNeeds, needs
from app.middleware.browsers import DOCUMENTATION

DOCUMENT = "openapi.json"
DESCRIPTIONS = {
    400: "The path or the query is not UTF-8.",
    401: "There is no key, or it is not accepted.",
    403: "The key does not allow this.",
    404: "There is no such id, version or report.",
    409: "The request conflicts with what is there: the version cannot be served, or the request key was used for "
    "something else. Nothing was changed.",
    415: "The body is compressed; send it without `Content-Encoding`.",
    413: "The request body is too large.",
    429: "More requests a second than a key allows; try again after `Retry-After` seconds.",
    422: "The request is not valid; `errors` says where and why.",
    500: "A bug.",
    501: "The service keeps no ratings.",
    503: "No model is being served yet, the service is about to stop, too much work is waiting, or ratings cannot be "
    "stored or read now; try again after `Retry-After` seconds.",
    504: "The answer took longer than a request may.",
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
    """The `responses` of a route whose answer names what another one can be asked for, by JSON pointer into it."""
    found = {name: f"$response.body#{pointer}" for name, pointer in parameters.items()}
    return {200: {"links": {operation: {"operationId": operation, "description": description, "parameters": found}}}}


def links(*given: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Several of those that `link` makes."""
    return {200: {"links": {name: found for one in given for name, found in one[200]["links"].items()}}}


class Service(FastAPI):
    """FastAPI with layers before all of its own, whose document says what those answer: refusals, ids, problems.

    Attributes:
        layers: put before Starlette's own middleware, which takes 5 µs a request.
        needs: what each request needs, else the layers refuse it.
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
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _complete(method.upper(), operation, self.needs.of(method.upper(), path).access)
        return super().openapi()


def _complete(method: str, operation: dict[str, Any], access: Access) -> None:
    """Declare refusals, which come before the operation is asked, the media type of problems, and headers."""
    statuses = {400, 415} if method in BODY_METHODS else {400}
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


@needs(Access.OPEN, DOCUMENTATION)
async def documentation(_: Request) -> Response:
    """The page of the document, which it finds beside itself: a proxy may have put both below a prefix."""
    return get_swagger_ui_html(openapi_url=DOCUMENT, title="Ratecast")


router = APIRouter()
router.add_route(f"/{DOCUMENT}", document, include_in_schema=False)
router.add_route("/docs", documentation, include_in_schema=False)
