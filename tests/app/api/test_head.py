"""HEAD is answered as GET is, without a body, on every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.console.routes import PATHS
from app.main import create_app
from app.settings import Settings
from tests.support.asgi import calling
from tests.support.service import Start

DOCUMENT = create_app(Settings()).openapi()
READ = [
    path.replace("{user}", "1").replace("{item}", "2").replace("{version}", "VERSION")
    for path, operations in DOCUMENT["paths"].items()
    if "get" in operations
]
KEY = "a-key-of-sixteen-characters"


@pytest.fixture(scope="module")
def own_client(start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = tmp_path_factory.mktemp("store") / "ratings.sqlite"
    with start(checkpoints, store=f"sqlite:///{store}") as (client, _):
        yield client


VARYING = {"x-request-id", "date"}


@pytest.mark.parametrize(
    "path",
    [*READ, *PATHS, "/docs", "/openapi.json", "/nowhere", "/items/nothing", "/users/1/top?n=0", "/users?query=%FF"],
)
def test_a_head_is_that_of_get(own_client: httpx.Client, path: str) -> None:
    path = path.replace("VERSION", own_client.get("/models/current").json()["version"])
    got, head = own_client.get(path), own_client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers.keys() == got.headers.keys()
    same = got.headers.keys() - VARYING
    if path in ("/metrics", "/models/current"):  # they say how much time has passed, or count this very request
        same -= {"content-length"}
    assert [head.headers[name] for name in same] == [got.headers[name] for name in same]
    assert "content-length" in head.headers


def test_a_connection_goes_on_after_a_head(own_client: httpx.Client) -> None:
    for _ in range(3):
        assert own_client.head("/health/ready").status_code == 200
        assert own_client.post("/predict", json={"user": "1", "item": "2"}).status_code == 200


def test_requests_of_head_are_counted_as_such_by_their_route(checkpoints: Path) -> None:
    with calling(create_app(Settings(checkpoints=checkpoints, store="none"))) as call:
        for path in ("/health/live", "/users/1/top", "/items/2"):
            assert call("HEAD", path).status == 200
        series = call("GET", "/metrics").body.decode()
    counted = set(
        re.findall(r'^ratecast_requests_total\{method="HEAD",route="([^"]+)",status="200"\} 1', series, re.MULTILINE)
    )
    assert counted == {"/health/live", "/users/{user:id}/top", "/items/{item:id}"}


def test_a_head_needs_what_get_needs(checkpoints: Path) -> None:
    settings = Settings(checkpoints=checkpoints, store="none", api_keys=SecretStr(KEY), max_concurrent=1)
    with calling(create_app(settings)) as call:
        for path in ("/health/live", "/health/ready", "/", "/docs", "/openapi.json", "/console/app.js"):
            assert call("HEAD", path).status == 200
        for path in ("/users/1/top", "/metrics", "/models/current", "/items/2"):
            refused = call("HEAD", path)
            assert (refused.status, refused.body) == (401, b"")
            assert call("HEAD", path, headers=[("authorization", f"Bearer {KEY}")]).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health/live", "GET, HEAD, OPTIONS"),
        ("PATCH", "/users/1/top", "GET, HEAD, OPTIONS"),
        ("PATCH", "/users/1/ratings", "GET, HEAD, OPTIONS"),
        ("PUT", "/docs", "GET, HEAD, OPTIONS"),
        ("PUT", "/openapi.json", "GET, HEAD, OPTIONS"),
        ("PUT", "/", "GET, HEAD, OPTIONS"),
        ("HEAD", "/predict", "OPTIONS, POST"),
        ("HEAD", "/users/1/ratings/2", "DELETE, OPTIONS, PUT"),
    ],
)
def test_a_405_names_head_where_get_is_answered(checkpoints: Path, method: str, path: str, allowed: str) -> None:
    with calling(create_app(Settings(checkpoints=checkpoints, store="none"))) as call:
        answer = call(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert bool(answer.body) == (method != "HEAD")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/predict", "OPTIONS, POST"),
        ("/users/1/ratings/2", "DELETE, OPTIONS, PUT"),
        ("/items/2", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_are_the_methods_of_a_path(own_client: httpx.Client, path: str, allowed: str) -> None:
    answer = own_client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    assert own_client.options("/nowhere").status_code == 404


def test_the_document_has_no_operation_twice() -> None:
    assert not [path for path, operations in DOCUMENT["paths"].items() if "head" in operations]
