"""Paths and queries that are not UTF-8, and bodies that are compressed, are refused on every route."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.support.asgi import Caller, calling
from tests.support.service import Start

WITH_BODY = [
    (method.upper(), path.replace("{user}", "1").replace("{item}", "2").replace("{version}", "x"))
    for path, operations in create_app(Settings()).openapi()["paths"].items()
    for method in operations
    if method in ("post", "put", "patch")
]


@pytest.fixture(scope="module")
def client(start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = tmp_path_factory.mktemp("store") / "ratings.sqlite"
    with start(checkpoints, store=f"sqlite:///{store}") as (client, _):
        yield client


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize("coding", ["gzip", "GZip", "deflate", "br", "zstd", "gzip, identity"])
def test_a_compressed_body_is_a_415_that_says_what_is_taken(
    client: httpx.Client, method: str, path: str, coding: str
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = client.request(method, path, content=gzip.compress(b'{"user":"1","item":"2"}'), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert answer.json()["type"] == "urn:ratecast:problem:content-encoding"
    assert "Content-Encoding" in answer.json()["detail"]


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_that_is_said_not_to_be_compressed_is_read(client: httpx.Client, coding: str) -> None:
    body = {"user": "1", "item": "2"}
    assert client.post("/predict", json=body, headers={"Content-Encoding": coding}).status_code == 200


def test_a_request_that_has_no_body_may_name_an_encoding(client: httpx.Client) -> None:
    assert client.get("/users/1/top", headers={"Content-Encoding": "gzip"}).status_code == 200


LATIN = ["%FCber", "%E4ber", "%C3", "%FF", "%ED%A0%80", "%C0%AF", "a%2F%FC"]


@pytest.mark.parametrize("user", LATIN)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/users/{}/ratings/1"),
        ("PUT", "/users/1/ratings/{}"),
        ("DELETE", "/users/{}/ratings/1"),
        ("DELETE", "/users/{}"),
        ("GET", "/users/{}/ratings"),
        ("GET", "/users/{}/top"),
        ("GET", "/items/{}"),
        ("GET", "/items/{}/similar"),
        ("GET", "/nowhere/{}"),
        ("GET", "/users/1/top?exclude={}"),
        ("GET", "/items?query={}"),
        ("GET", "/users?query={}"),
        ("GET", "/health/live?x={}"),
        ("POST", "/predict?strict={}"),
    ],
)
def test_a_target_that_is_not_utf_8_is_a_400(client: httpx.Client, method: str, path: str, user: str) -> None:
    body = {"rating": 4} if method == "PUT" else {"user": "1", "item": "2"}
    answer = client.request(method, path.format(user), json=body if method in ("PUT", "POST") else None)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:ratecast:problem:not-utf-8"


def test_of_two_people_whose_ids_are_not_utf_8_nothing_is_stored(client: httpx.Client) -> None:
    for user in ("%FCber", "%E4ber"):
        assert client.put(f"/users/{user}/ratings/1", json={"rating": 4}).status_code == 400
    assert client.get("/users/%EF%BF%BDber/ratings").json()["ratings"] == []
    assert client.put("/users/%C3%BCber/ratings/1", json={"rating": 4}).json()["user"] == "über"
    assert client.get("/users/%EF%BF%BDber/ratings").json()["ratings"] == []  # U+FFFD itself is a character as others


@pytest.mark.parametrize("path", ["/ratings", "/predict", "/recommend"])
def test_a_lone_surrogate_in_a_body_is_refused(client: httpx.Client, path: str) -> None:
    bodies = {
        "/ratings": b'{"users": ["\\ud800"], "items": ["1"], "ratings": [3]}',
        "/predict": b'{"users": ["\\ud800"], "items": ["1"]}',
        "/recommend": b'{"users": ["1"], "exclude": ["\\udfff"]}',
    }
    answer = client.post(path, content=bodies[path], headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_bytes_of_a_query_that_are_not_percent_encoded_are_utf_8_too(checkpoints: Path) -> None:
    with calling(create_app(Settings(checkpoints=checkpoints, store="none"))) as call:
        _check_raw_query(call)


def _check_raw_query(call: Caller) -> None:
    for query in ("query=ünï·ço∂é&n=1", "query=%C3%BCn%C3%AF·ço∂é&n=1"):
        (found,) = json.loads(call("GET", "/users", query=query.encode()).body)["users"]
        assert found["user"] == "ünï·ço∂é"
    only = json.loads(call("GET", "/users/1/top", query="only=ünï·ço∂é&exclude_seen=0".encode()).body)
    assert [item["item"] for item in only["items"]] == ["ünï·ço∂é"]
    assert call("GET", "/users", query="query=ü".encode("latin-1")).status == 400
