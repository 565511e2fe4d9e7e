"""Plain routes answer or explain whatever is sent to them, the same in every encoding and however it is sent."""

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
from tests.support.asgi import Answer, Caller, calling

JSON = (("content-type", "application/json"),)
MSGPACK = (("content-type", "application/msgpack"),)
KNOWN = ["1", "2", "196", "a/b", "ünï·ço∂é", "a\nb", '"']


@pytest.fixture(scope="module")
def call(checkpoints: Path) -> Iterator[Caller]:
    chosen = Settings(checkpoints=checkpoints, max_pairs=50, max_id_length=20, max_body_bytes=20_000)
    with calling(create_app(chosen)) as caller:
        yield caller


def errors(answer: Answer) -> dict[str, str]:
    """What is wrong with a request, by its location."""
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    return {error["location"]: error["message"] for error in json.loads(answer.body)["errors"]}


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


@given(document=documents)
@settings(max_examples=400)
def test_any_document_gets_the_same_answer_as_msgpack_and_as_json(call: Caller, document: Any) -> None:
    try:
        packed = msgspec.msgpack.encode(document)
    except (OverflowError, UnicodeEncodeError):  # msgpack has neither numbers of more than 64 bits nor lone surrogates
        return
    as_json = call("POST", "/predict", body=json.dumps(document).encode(), headers=JSON)
    as_msgpack = call("POST", "/predict", body=packed, headers=MSGPACK)
    assert as_json.status == as_msgpack.status
    assert as_json.status in (200, 422)
    if as_json.status == 200:
        assert msgspec.msgpack.decode(as_msgpack.body) == json.loads(as_json.body)


@given(document=documents, indent=st.sampled_from([None, 2]), ascii_=st.booleans())
@settings(max_examples=200)
def test_spelling_and_parts_of_a_body_do_not_change_its_answer(
    call: Caller, document: Any, indent: int | None, ascii_: bool
) -> None:
    """With a parameter in its media type a body is validated by pydantic alone, without it by msgspec first."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    first = call("POST", "/predict", body=text, headers=JSON)
    charset = (("content-type", "application/json; charset=utf-8"),)
    for other in (
        call("POST", "/predict", body=text, headers=JSON, chunks=3),
        call("POST", "/predict", body=text, headers=charset),
        call("POST", "/predict", body=text, headers=JSON, query=b"strict=0"),
    ):
        assert (other.status, other.body) == (first.status, first.body)


NOT_JSON = "the body must be a JSON object, sent with Content-Type: application/json"
NO_ID = "an id is a string of at least one character, an integer, or a number below 2⁵³"
MEMBERS = "item, items, ratings, user, users"
OF_ANOTHER_FORM = "member 'user' does not go with the others that are given"
SCALE = "a rating must be between 1 and 5"
TOO_LONG = "an id has at most 20 characters (RATECAST_MAX_ID_LENGTH)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {"body": "Field required"}),
        (b"null", {"body": NOT_JSON}),
        (b"[]", {"body": NOT_JSON}),
        (b'{"user": "1", "item": "2"} x', {"body": "not JSON: Extra data at character 27"}),
        (b'{"user": "\xff", "item": "2"}', {"body": "not readable as JSON in UTF-8"}),
        (b"[" * 100_000, {"body": "a request body has at most 20000 bytes (RATECAST_MAX_BODY_BYTES)"}),
        (b"[" * 10_000, {"body": "not readable as JSON in UTF-8"}),
        (b'{"user": ' + b"9" * 5_000 + b', "item": 1}', {"body": "not readable as JSON in UTF-8"}),
        (b'{"user": ' + b"9" * 21 + b', "item": 1}', {"body.user": TOO_LONG}),
        (b'{"user": "1", "item": "' + b"i" * 21 + b'"}', {"body.item": TOO_LONG}),
        (b'{"user": "1", "item": ""}', {"body.item": NO_ID}),
        (b'{"user": true, "item": null}', {"body.user": NO_ID, "body.item": NO_ID}),
        (b'{"user": true, "item": 2}', {"body.user": NO_ID}),
        (b'{"user": "\\ud800", "item": "2"}', {"body.user": NO_ID}),
        (b'{"user": "1"}', {"body.item": "Field required"}),
        (b'{"user": "1", "item": "2", "itms": 1}', {"body": "unknown member 'itms': did you mean 'items'?"}),
        (b'{"user": "1", "item": "2", "\\n": 1}', {"body": f"unknown member '\\n'; known are {MEMBERS}"}),
        (b'{"user": "1", "items": ["2"]}', {"body.users": "Field required", "body": OF_ANOTHER_FORM}),
        (b'{"users": ["1", ""], "items": ["2", "3"]}', {"body.users.1": NO_ID}),
        (b'{"users": "12", "items": ["1"]}', {"body.users": "Input should be a valid list"}),
        (
            b'{"users": ["1"], "items": []}',
            {"body": "the columns must have the same length, but there are 1 users and 0 items"},
        ),
        (b'{"item": "2", "ratings": [{"item": "1", "rating": 99}]}', {"body.ratings.0.rating": SCALE}),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
@pytest.mark.parametrize("chunks", [1, 3])
def test_what_is_wrong_with_a_body_is_said_and_where(
    call: Caller, body: bytes, expected: dict[str, str], chunks: int
) -> None:
    answer = call("POST", "/predict", body=body, headers=JSON, chunks=chunks)
    if len(body) > 20_000:
        assert (answer.status, json.loads(answer.body)["detail"]) == (413, expected["body"])
    else:
        assert errors(answer) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"user": "1", "user": "2", "item": "2"}',
        b'{"user": "\\u0000", "item": "2"}',
        b'{"user": -0, "item": 7}',
        b'{"user": ' + b"9" * 19 + b', "item": 1}',
        b'{"users": [], "items": []}',
        b'\n\t{ "user" :\r "1" , "item":"2" }\n',
        b'{"item": "2", "ratings": []}',
        b'{"items": ["2", "none"], "ratings": [{"item": "1", "rating": 4}]}',
    ],
)
def test_odd_bodies_that_ask_for_something_are_answered(call: Caller, body: bytes) -> None:
    assert call("POST", "/predict", body=body, headers=JSON).status == 200


@pytest.mark.parametrize(
    ("types", "status"),
    [
        (["application/json"], 200),
        (["application/json; charset=utf-8"], 200),
        (["APPLICATION/JSON"], 200),
        (["application/merge-patch+json"], 200),
        (["application/json", "text/plain"], 200),
        (["text/plain", "application/json"], 422),
        (["text/plain"], 422),
        ([""], 422),
        ([], 422),
    ],
)
def test_json_is_what_its_first_media_type_calls_so(call: Caller, types: list[str], status: int) -> None:
    headers = [("content-type", media_type) for media_type in types]
    answer = call("POST", "/predict", body=b'{"user": "1", "item": "2"}', headers=headers)
    assert answer.status == status
    if status == 422:
        assert errors(answer) == {"body": NOT_JSON}


def test_all_that_is_wrong_is_said_together(call: Caller) -> None:
    answer = call("POST", "/predict", b'{"user": true, "item": []}', JSON, b"strict=maybe")
    assert list(errors(answer)) == ["query.strict", "body.user", "body.item"]
    assert errors(call("GET", "/users//top", query=b"n=x&rank_by=luck")).keys() == {
        "path.user",
        "query.n",
        "query.rank_by",
    }


@pytest.mark.parametrize("headers", [JSON, MSGPACK])
@pytest.mark.parametrize(
    ("query", "status"),
    [(b"strict=true", 404), (b"strict=1", 404), (b"strict=0&strict=1", 404), (b"strict=0", 200), (b"strict=", 422)],
)
def test_strictness_is_read_for_every_encoding(
    call: Caller, headers: tuple[tuple[str, str], ...], query: bytes, status: int
) -> None:
    encode = json.dumps if headers is JSON else msgspec.msgpack.encode
    body = encode({"user": "nobody", "item": "2"})
    answer = call("POST", "/predict", body if isinstance(body, bytes) else body.encode(), headers, query)
    assert answer.status == status


parameters = st.lists(
    st.tuples(
        st.sampled_from(["n", "rank_by", "exclude_seen", "strict", "exclude", "only", "genre", "other", ""]),
        st.sampled_from(
            ["1", "7", "0", "-1", "007", "1_0", "1.5", "9999999999", "%31", "", "true", "false", "True", "1000", "1001",
             "relevance", "rating", "lower_bound", "luck", "2", "Drama", "a%2Fb", "٣", "+1", " 1"]
        ),
    ),
    max_size=4,
)  # fmt: skip


@given(chosen=parameters, user=st.sampled_from([*KNOWN, "", "nobody", "u" * 21, "a/top", "top"]))
@example(chosen=[("n", "5")], user="196")
@settings(max_examples=300)
def test_any_list_is_answered_or_explained_and_the_same_when_asked_again(
    call: Caller, chosen: list[tuple[str, str]], user: str
) -> None:
    query = "&".join(f"{name}={value}" for name, value in chosen).encode()
    first, again = (call("GET", f"/users/{user}/top", query=query) for _ in "12")
    assert (again.status, again.body) == (first.status, first.body)
    assert first.status in (200, 404, 422)
    if first.status == 422:
        assert errors(first)


@pytest.mark.parametrize(
    ("query", "length"),
    [(b"n=5&", 5), (b"&", 10), (b"%6E=5", 5), (b"n=%35", 5), (b"n=x&n=5", 5), (b"n=0005", 5), (b"n=5+", 5),
     (b"only=1&only=2&exclude_seen=0", 2), (b"exclude_seen=0&only=1&exclude=1", 0)],
)  # fmt: skip
def test_queries_are_read_as_forms_are(call: Caller, query: bytes, length: int) -> None:
    answer = call("GET", "/users/nobody/top", query=query)
    assert len(json.loads(answer.body)["items"]) == length


@pytest.mark.parametrize("query", [b"n", b"n=5&n=x", b"n==5", b"n=5;strict=true", b"n=5%00"])
def test_queries_that_cannot_be_read_so_are_refused(call: Caller, query: bytes) -> None:
    assert set(errors(call("GET", "/users/nobody/top", query=query))) == {"query.n"}


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/users/a/b/top", "a/b"),
        ("/users/a/top/top", "a/top"),
        ("/users/a/ratings/top", "a/ratings"),
        ("/users/x/because/y/top", "x/because/y"),
        ("/users/a\nb/top", "a\nb"),
    ],
)
def test_an_id_may_have_slashes(call: Caller, path: str, user: str) -> None:
    assert json.loads(call("GET", path).body)["user"] == user


def test_a_path_of_another_route_is_left_to_that(call: Caller) -> None:
    assert call("GET", "/users/x/because/top").status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize("path", ["/predict", "/users/1/ratings/2"])
def test_another_method_is_a_405_that_names_the_right_ones(call: Caller, method: str, path: str) -> None:
    allowed = {"/predict": "OPTIONS, POST", "/users/1/ratings/2": "DELETE, OPTIONS, PUT"}[path]
    if method not in allowed:
        answer = call(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("chunks", [1, 2, 100])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/predict"), ("PUT", "/users/1/ratings/2"), ("POST", "/recommend")]
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_a_413_in_however_many_parts_it_comes(
    call: Caller, method: str, path: str, chunks: int, declared: bool
) -> None:
    headers = [*JSON, ("content-length", "20001")] if declared else JSON
    answer = call(method, path, body=b" " * 20_001, headers=headers, chunks=chunks)
    assert (answer.status, json.loads(answer.body)["type"]) == (413, "urn:ratecast:problem:body-too-large")


def test_plain_routes_do_without_fastapis_router(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints))
    app.router.routes.clear()
    with calling(app) as call:
        assert call("POST", "/predict", b'{"user": "1", "item": "2"}', JSON).status == 200
        assert call("POST", "/predict", b'{"user": true, "item": "2"}', JSON).status == 422
        assert call("GET", "/users/1/top", query=b"n=3&only=1").status == 200
        assert call("PUT", "/users/1/ratings/2", b'{"rating": 99}', JSON).status == 422


def test_a_bug_in_a_plain_route_is_a_problem_with_the_request_id(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints))
    with calling(app) as call:
        call._state["engine"] = None
        with pytest.raises(AttributeError):
            call("POST", "/predict", b'{"user": "1", "item": "2"}', JSON)
