"""Whatever is asked, the front door answers as FastAPI's own routes do, or hands the request on to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.main import create_app
from app.settings import Settings
from tests.support.asgi import Caller, calling

JSON = (("content-type", "application/json"),)
KNOWN = ["1", "2", "196", "a/b", "ünï·ço∂é", "\n", '"']


@pytest.fixture(scope="module")
def both(checkpoints: Path) -> Iterator[tuple[Caller, Caller]]:
    """The service, and the same without its front door and gate."""
    chosen = Settings(checkpoints=checkpoints, max_pairs=50, max_id_length=20, max_body_bytes=20_000)
    service, routes = create_app(chosen), create_app(chosen)
    routes.surround(lambda inner: inner)
    with calling(service) as ours, calling(routes) as theirs:
        yield ours, theirs


def same(both: tuple[Caller, Caller], method: str, path: str, **request: Any) -> int:
    """Hold the two answers together, and give their status."""
    ours, theirs = (call(method, path, **request) for call in both)
    assert (ours.status, ours.body) == (theirs.status, theirs.body)
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    assert "x-request-id" in ours.headers
    return ours.status


ids = st.one_of(st.sampled_from(KNOWN), st.text(max_size=25), st.integers(-(10**25), 10**25))
junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
columns = st.lists(ids, max_size=6)
documents = st.one_of(
    st.fixed_dictionaries({"user": ids, "item": ids}),
    st.tuples(columns, columns).map(lambda two: {"users": two[0], "items": two[1]}),
    st.integers(0, 60).map(lambda size: {"users": ["1"] * size, "items": ["2"] * size}),
    st.fixed_dictionaries({"users": columns | junk, "items": columns | junk}, optional={"user": ids}),
    st.fixed_dictionaries({"user": ids | junk, "item": ids | junk}, optional={"more": junk, "items": columns}),
    junk,
)


@given(document=documents, indent=st.sampled_from([None, 2]), cut=st.integers(0, 3), ascii_=st.booleans())
@settings(max_examples=400)
def test_any_json_gets_the_answer_that_the_routes_give(
    both: tuple[Caller, Caller], document: Any, indent: int | None, cut: int, ascii_: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    same(both, "POST", "/predict", body=text[: len(text) - cut], headers=JSON)


@given(document=documents)
@settings(max_examples=400)
def test_any_document_gets_the_same_answer_as_msgpack_and_as_json(both: tuple[Caller, Caller], document: Any) -> None:
    call, msgpack = both[0], (("content-type", "application/msgpack"),)
    try:
        packed = msgspec.msgpack.encode(document)
    except (OverflowError, UnicodeEncodeError):  # msgpack has neither numbers of more than 64 bits nor lone surrogates
        return
    theirs, ours = (
        call("POST", "/predict", body=json.dumps(document).encode(), headers=JSON),
        call("POST", "/predict", body=packed, headers=msgpack),
    )
    assert ours.status == theirs.status
    if ours.status == 200:
        assert msgspec.msgpack.decode(ours.body) == json.loads(theirs.body)


HOSTILE = [
    b"",
    b"\xef\xbb\xbf" + b'{"user": "1", "item": "2"}',
    b'{"user": "1", "item": "2"} x',
    b'{"user": "1", "user": "2", "item": "2"}',
    b'{"users": ["1"], "users": ["2", "2"], "items": ["2", "3"]}',
    b'{"user": "\xff", "item": "2"}',
    b'{"user": "\\ud800", "item": "2"}',
    b'{"user": "\\u0000", "item": "2"}',
    b'{"user": "\x00", "item": "2"}',
    b'{"user": 1.0, "item": 2}',
    b'{"user": -0, "item": 1e3}',
    b'{"user": 1e999, "item": 2}',
    b'{"user": NaN, "item": -Infinity}',
    b'{"user": ' + b"9" * 19 + b', "item": 1}',
    b'{"user": ' + b"9" * 21 + b', "item": 1}',
    b'{"user": ' + b"9" * 5_000 + b', "item": 1}',
    b"[" * 10_000,
    b'{"users": ' + b"[" * 9_000 + b"]" * 9_000 + b', "items": []}',
    b'{"user": "1", "item": "' + b"i" * 21 + b'"}',
    b'{"user": "1", "item": ""}',
    b'{"user": true, "item": null}',
    b'{"users": ["1"], "items": []}',
    b'{"users": [], "items": []}',
    b'{"users": "12", "items": "12"}',
    b'\n\t{ "user" :\r "1" , "item":"2" }\n',
]


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body)[:40])
@pytest.mark.parametrize("chunks", [1, 3])
def test_hostile_bodies_get_the_answer_that_the_routes_give(
    both: tuple[Caller, Caller], body: bytes, chunks: int
) -> None:
    assert same(both, "POST", "/predict", body=body, headers=JSON, chunks=chunks) in (200, 422)


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/json; charset=utf-8", "APPLICATION/JSON", "a"])
def test_other_media_types_get_the_answer_that_the_routes_give(both: tuple[Caller, Caller], media_type: str) -> None:
    same(both, "POST", "/predict", body=b'{"user": "1", "item": "2"}', headers=(("content-type", media_type),))


@pytest.mark.parametrize("types", [("text/plain", "application/json"), ("application/json", "text/plain")])
def test_of_two_media_types_the_one_counts_that_counts_for_the_routes(
    both: tuple[Caller, Caller], types: tuple[str, str]
) -> None:
    headers = [("content-type", media_type) for media_type in types]
    same(both, "POST", "/predict", body=b'{"user": "1", "item": "2"}', headers=headers)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/predict", "/users/1/top", "/predict/", "//predict"])
def test_other_methods_and_paths_get_the_answer_that_the_routes_give(
    both: tuple[Caller, Caller], method: str, path: str
) -> None:
    same(both, method, path)


@pytest.mark.parametrize(
    "query", [b"strict=true", b"strict=1", b"strict=maybe", b"strict=", b"other=1", b"strict=0&strict=1"]
)
def test_strictness_gets_the_answer_that_the_routes_give(both: tuple[Caller, Caller], query: bytes) -> None:
    for user in ("1", "nobody"):
        same(both, "POST", "/predict", body=json.dumps({"user": user, "item": "2"}).encode(), headers=JSON, query=query)


parameters = st.lists(
    st.tuples(
        st.sampled_from(["n", "rank_by", "exclude_seen", "strict", "exclude", "only", "category", "other", ""]),
        st.sampled_from(
            ["1", "7", "0", "-1", "007", "1_0", "1.5", "9999999999", "%31", "", "true", "false", "True", "1000", "1001",
             "relevance", "rating", "lower_bound", "luck", "2", "Drama", "a%2Fb", "٣", "+1", " 1"]
        ),
    ),
    max_size=4,
)  # fmt: skip


@given(chosen=parameters, user=st.sampled_from([*KNOWN, "", "nobody", "u" * 21, "a/top", "top"]))
@example(chosen=[("n", "5")], user="196")
@settings(max_examples=400)
def test_any_list_gets_the_answer_that_the_routes_give(
    both: tuple[Caller, Caller], chosen: list[tuple[str, str]], user: str
) -> None:
    query = "&".join(f"{name}={value}" for name, value in chosen).encode()
    assert same(both, "GET", f"/users/{user}/top", query=query) in (200, 404, 422)


@pytest.mark.parametrize(
    "query",
    [b"n=5&", b"&", b"n", b"=", b"%6E=5", b"n=5;strict=true", b"exclude_seen", b"n=\xff", b"n=5&n=x", b"n=x&n=5",
     b"strict=true&strict=false", b"rank_by=rating&rank_by=", b"n=%35", b"n=5+", b"n==5", b"N=5", b"n=0005", b"n=5%00"],
)  # fmt: skip
def test_queries_of_any_spelling_get_the_answer_that_the_routes_give(both: tuple[Caller, Caller], query: bytes) -> None:
    for user in ("1", "nobody"):
        assert same(both, "GET", f"/users/{user}/top", query=query) in (200, 404, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/users//top",
        "/users/top",
        "/users/a/top/top",
        "/users/1/top/",
        "/users/1/TOP",
        "/users/1/top\n",
        "/users/\n/top",
    ],
)
def test_strange_paths_get_the_answer_that_the_routes_give(both: tuple[Caller, Caller], path: str) -> None:
    same(both, "GET", path)


@pytest.mark.parametrize("chunks", [1, 2, 100])
@pytest.mark.parametrize("path", ["/predict", "/recommend"])
def test_a_body_that_is_too_large_is_a_413_in_however_many_parts_it_comes(
    both: tuple[Caller, Caller], path: str, chunks: int
) -> None:
    assert same(both, "POST", path, body=b" " * 20_001, headers=JSON, chunks=chunks) == 413


def test_a_plain_request_does_not_reach_the_routes(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints))
    app.router.routes.clear()
    with calling(app) as call:
        assert call("POST", "/predict", b'{"user": "1", "item": "2"}', JSON).status == 200
        assert call("GET", "/users/1/top").status == 200


def test_a_bug_behind_the_door_is_a_problem_with_the_request_id(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints))
    with calling(app) as call:
        call._state["engine"] = None
        with pytest.raises(AttributeError):
            call("POST", "/predict", b'{"user": "1", "item": "2"}', JSON)
