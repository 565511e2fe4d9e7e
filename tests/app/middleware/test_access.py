"""Which routes are open, read, rate or change: as they declare it, and as their method says where they do not."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.main import create_app
from app.middleware.access import CHANGE, READ, Access, Needs, RouteNeeds, needs
from app.middleware.browsers import CONSOLE, DATA, DOCUMENTATION, REPORT
from app.settings import Settings

NEEDS = create_app(Settings()).needs


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/health/live", Needs(Access.PROBE)),
        ("POST", "/health/ready", Needs(Access.PROBE)),
        ("GET", "/docs", Needs(Access.OPEN, DOCUMENTATION)),
        ("GET", "/openapi.json", Needs(Access.OPEN)),
        ("GET", "/", Needs(Access.OPEN, CONSOLE)),
        ("HEAD", "/console/app.js", Needs(Access.OPEN, CONSOLE)),
        ("GET", "/console/nothing.js", READ),
        ("POST", "/predict", READ),
        ("PUT", "/predict", READ),
        ("POST", "/recommend", READ),
        ("GET", "/users/1/top", READ),
        ("GET", "/users/1/ratings", READ),
        ("PUT", "/users/1/ratings/2", Needs(Access.RATE)),
        ("DELETE", "/users/1/ratings/2", Needs(Access.RATE)),
        ("PATCH", "/users/1/ratings/2", CHANGE),
        ("POST", "/ratings", Needs(Access.RATE)),
        ("DELETE", "/users/1", CHANGE),
        ("POST", "/models/x/activate", CHANGE),
        ("GET", "/models/x/report", Needs(Access.READ, REPORT)),
        ("GET", "/nowhere", READ),
        ("POST", "/nowhere", CHANGE),
        ("OPTIONS", "/predict", READ),
    ],
)
def test_a_request_needs_what_its_route_declares(method: str, path: str, expected: Needs) -> None:
    assert NEEDS.of(method, path) == expected


def test_a_route_that_declares_nothing_is_not_open() -> None:
    async def endpoint(_: Request) -> Response:
        return Response()

    @needs(Access.OPEN)
    async def opened(_: Request) -> Response:
        return Response()

    routes = [Route("/a", endpoint, methods=["GET", "POST"]), Route("/b/{id}", opened)]
    found = RouteNeeds(routes)
    assert (found.of("GET", "/a"), found.of("POST", "/a")) == (READ, CHANGE)
    assert found.of("GET", "/b/1") == Needs(Access.OPEN, DATA)
