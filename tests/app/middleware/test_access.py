"""Which routes are open, read, rate or change: as they declare it, and as their method says where they do not."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.main import create_app
from app.middleware.access import CHANGE, READ, Access, Needs, RouteNeeds, needs
from app.middleware.browsers import CONSOLE, DATA, DOCUMENTATION, REPORT
from app.settings import Settings
from tests.support.asgi import Caller

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


def test_the_route_that_answers_has_the_last_word() -> None:
    """Whatever was found out before routing: here that everybody may ask."""
    keys = {"api_keys": SecretStr("k" * 16), "admin_keys": SecretStr("a" * 16)}
    app = create_app(Settings(checkpoints="/nowhere", **keys))
    app.needs.of = lambda *_: Needs(Access.READ)  # type: ignore[method-assign]
    key, body = [("authorization", "Bearer " + "k" * 16), ("content-type", "application/json")], b'{"rating": 5}'
    with asyncio.Runner() as runner:
        call = Caller(app, runner, {})
        for method, path in (("DELETE", "/users/1"), ("POST", "/models/x/activate"), ("PUT", "/users/1/ratings/2")):
            assert call(method, path, body, key).status == 403
