"""One rule of ids in every request: blanks around an id are no part of it, and 1.0 is 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from app.engine.types import shortest
from app.main import create_app
from app.settings import Settings
from models import ids
from tests.support.asgi import Answer, Caller, calling

JSON, MSGPACK = (("content-type", "application/json"),), (("content-type", "application/msgpack"),)
ARROW = (("content-type", "application/vnd.apache.arrow.stream"),)
SPELLINGS = ["196", " 196 ", "196.0", "\t196.00\n", "\u00a0196", "196.000 "]
KINDS = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]


@pytest.fixture(scope="module")
def call(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    store = f"sqlite:///{tmp_path_factory.mktemp('store') / 'ratings.sqlite'}"
    with calling(create_app(Settings(checkpoints=checkpoints, store=store, max_id_length=20))) as caller:
        yield caller


def post(call: Caller, path: str, body: Any) -> Any:
    answer = call("POST", path, json.dumps(body).encode(), JSON)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def get(call: Caller, path: str, query: bytes = b"") -> Any:
    answer = call("GET", path, query=query)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def stream(users: pa.Array, items: pa.Array) -> bytes:
    table = pa.table({"user": users, "item": items})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@pytest.mark.parametrize("user", SPELLINGS)
def test_however_an_id_is_spelled_its_predictions_are_the_same(call: Caller, user: str) -> None:
    plain = post(call, "/predict", {"user": "196", "item": "7"})
    assert plain["source"] == "model"
    assert post(call, "/predict", {"user": user, "item": "7.0"}) == plain
    columns = {"users": [user, 196, "22"], "items": [" 7", 7, "7.0"]}
    from_json = post(call, "/predict", columns)
    assert from_json["ratings"][:2] == [plain["rating"]] * 2
    packed = call("POST", "/predict", msgspec.msgpack.encode(columns), MSGPACK)
    assert msgspec.msgpack.decode(packed.body) == from_json
    packed = call("POST", "/predict", msgspec.msgpack.encode({"user": user, "item": " 7"}), MSGPACK)
    assert msgspec.msgpack.decode(packed.body) == plain


@pytest.mark.parametrize("kind", KINDS)
def test_ids_in_arrow_columns_are_cleaned_too(call: Caller, kind: pa.DataType) -> None:
    users, items = pa.array([*SPELLINGS, "22"]).cast(kind), pa.array([" 7", "7.0"] * 3 + ["7"]).cast(kind)
    answer = pa.ipc.open_stream(call("POST", "/predict", stream(users, items), ARROW).body).read_all()
    plain = post(call, "/predict", {"users": ["196"] * 6 + ["22"], "items": ["7"] * 7})
    assert shortest(answer["rating"].to_numpy()) == plain["ratings"]
    assert set(answer["source"].to_pylist()) == {"model"}


NUMBERS = [
    (196.0, "196"),
    (-0.0, "-0"),
    (1.50, "1.5"),
    (1e3, "1000"),
    (1e-7, "0.0000001"),
    (2.0**53 - 1, str(2**53 - 1)),
]


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_a_number_is_its_decimal_digits_in_every_encoding(call: Caller, number: float, text: str) -> None:
    """As in files; see `test_an_id_that_is_a_number_is_the_same_in_files_of_all_kinds`."""
    assert ids.of(number) == ids.of(Decimal(repr(number))) == text
    rating = {"ratings": [3], "items": [number]}
    assert post(call, "/ratings", {"users": [number]} | rating)["stored"] == 1
    assert text in [one["item"] for one in get(call, f"/users/{text}/ratings")["ratings"]]
    predicted = post(call, "/predict", {"users": [text, "x"], "items": [7, 7]})
    columns = {"users": [number, "x"], "items": [7.0, 7]}
    assert post(call, "/predict", columns) == predicted
    assert msgspec.msgpack.decode(call("POST", "/predict", msgspec.msgpack.encode(columns), MSGPACK).body) == predicted
    for users in (pa.array([number]), pa.array([number]).dictionary_encode()):
        answer = call("POST", "/predict", stream(users, pa.array([7.0], pa.float32())), ARROW)
        found = pa.ipc.open_stream(answer.body).read_all()
        assert shortest(found["rating"].to_numpy()) == predicted["ratings"][:1]
        assert found["source"].to_pylist() == predicted["sources"][:1]
    assert post(call, "/predict", {"user": number, "item": 7.0})["rating"] == predicted["ratings"][0]
    (made,) = post(call, "/recommend", {"users": [number], "exclude": [7.0]})["lists"]
    assert made["user"] == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e300, 2.0**53, True])
def test_a_number_that_may_stand_for_several_ids_is_refused(call: Caller, number: float) -> None:
    for path, body in (
        ("/predict", {"user": number, "item": "7"}),
        ("/predict", {"users": ["7", number], "items": ["7", "7"]}),
        ("/predict", {"item": number, "ratings": []}),
        ("/recommend", {"users": [number]}),
        ("/ratings", {"users": ["7"], "items": [number], "ratings": [3]}),
    ):
        assert call("POST", path, json.dumps(body).encode(), JSON).status == 422, body
        if path == "/predict" and "ratings" not in body:
            assert call("POST", path, msgspec.msgpack.encode(body), MSGPACK).status in (400, 422), body
    assert call("POST", "/predict", stream(pa.array([number]), pa.array(["7"])), ARROW).status in (400, 422)


def test_ids_in_lists_are_cleaned(call: Caller) -> None:
    plain = get(call, "/users/196/top", b"exclude=7&only=7&only=9&only=11&exclude_seen=false")
    assert len(plain["items"]) == 2
    assert get(call, "/users/ 196.0/top", b"exclude=7.0&only=%207&only=9+&only=11.00&exclude_seen=false") == plain
    body = {"users": [" 196"], "exclude": ["7.0"], "only": [" 7", 9, "11.0"], "exclude_seen": False}
    (made,) = post(call, "/recommend", body)["lists"]
    assert (made["user"], made["items"]) == ("196", plain["items"])


def test_ids_of_inline_ratings_are_cleaned(call: Caller) -> None:
    plain = post(call, "/predict", {"item": "7", "ratings": [{"item": "9", "rating": 5}]})
    assert post(call, "/predict", {"item": " 7", "ratings": [{"item": "9.0", "rating": 5}]}) == plain
    assert plain["ratings_used"] == 1
    twice = {"item": "7", "ratings": [{"item": "9.0", "rating": 5}, {"item": " 9", "rating": 5}]}
    answer = call("POST", "/predict", json.dumps(twice).encode(), JSON)
    assert json.loads(answer.body)["errors"] == [
        {"location": "body.ratings.1.item", "message": "each item may be rated only once"}
    ]


def test_what_is_stored_is_clean(call: Caller) -> None:
    stored = json.loads(call("PUT", "/users/1.0/ratings/ 7", b'{"rating": 5}', JSON).body)
    assert (stored["user"], stored["item"], stored["known_item"]) == ("1", "7", True)
    bulk = {"users": [" somebody", "1.0"], "items": ["9.0", " 9 "], "ratings": [3, 4]}
    assert post(call, "/ratings", bulk)["unknown_items"] == 0
    for path in ("/users/1/ratings", "/users/ 1.0 /ratings"):
        found = {one["item"]: one["rating"] for one in get(call, path)["ratings"] if one["timestamp"]}
        assert found == {"7": 5, "9": 4}
    assert [one["item"] for one in get(call, "/users/somebody.0/ratings")["ratings"]] == []
    assert [one["item"] for one in get(call, "/users/somebody /ratings")["ratings"]] == ["9"]
    assert get(call, "/users/ 1/because/ 9.0")["item"] == "9"
    assert get(call, "/users/1.0/export")["user"] == "1"
    assert json.loads(call("DELETE", "/users/1.0/ratings/7.0").body)["item"] == "7"
    assert json.loads(call("DELETE", "/users/ 1 ").body)["user"] == "1"
    assert get(call, "/users/1/ratings")["ratings"] == []


def test_items_and_users_are_found_by_ids_however_they_are_spelled(call: Caller) -> None:
    assert get(call, "/items/ 7.0")["item"] == "7"
    assert get(call, "/items/7.0/similar") == get(call, "/items/7/similar")
    assert get(call, "/items", b"query=7.0")["items"][0]["item"] == "7"
    assert get(call, "/users", b"query=%20196.0")["users"] == get(call, "/users", b"query=196")["users"]


@pytest.mark.parametrize("id_", ["021", "1.5", "1.0.0", ".0", "NA", "1e3", "a.0", "1 0", "-7.5"])
def test_other_ids_are_left_as_they_stand(call: Caller, id_: str) -> None:
    stored = json.loads(call("PUT", f"/users/{id_}/ratings/{id_}", b'{"rating": 5}', JSON).body)
    assert (stored["user"], stored["item"]) == (id_, id_)


def test_the_length_of_an_id_is_that_of_the_clean_one(call: Caller) -> None:
    longest = "i" * 20
    for body in ({"user": f" {longest} ", "item": "7"}, {"users": ["1" * 20 + ".0"], "items": [longest]}):
        assert call("POST", "/predict", json.dumps(body).encode(), JSON).status == 200
        assert call("POST", "/predict", msgspec.msgpack.encode(body), MSGPACK).status == 200
    assert call("POST", "/predict", stream(pa.array([f" {longest}"]), pa.array(["1.0"])), ARROW).status == 200
    assert call("PUT", f"/users/{longest} /ratings/{longest} ", b'{"rating": 5}', JSON).status == 200


BLANK = [" ", "\t \n", "\u00a0"]


@pytest.mark.parametrize("blank", BLANK)
def test_an_id_of_blanks_is_refused_as_an_empty_one_is(call: Caller, blank: str) -> None:
    def refused(answer: Answer) -> Any:
        assert answer.status == 422
        return json.loads(answer.body)["errors"]

    for of_empty, of_blank in (
        ({"user": "", "item": "7"}, {"user": blank, "item": "7"}),
        ({"users": ["1", ""], "items": ["7", "7"]}, {"users": ["1", blank], "items": ["7", "7"]}),
        ({"users": [5, ""], "items": ["7", "7"]}, {"users": [5, blank], "items": ["7", "7"]}),
        ({"items": [""], "ratings": []}, {"items": [blank], "ratings": []}),
    ):
        bodies = [json.dumps(body).encode() for body in (of_empty, of_blank)]
        assert refused(call("POST", "/predict", bodies[1], JSON)) == refused(call("POST", "/predict", bodies[0], JSON))
        if "ratings" not in of_empty:
            bodies = [msgspec.msgpack.encode(body) for body in (of_empty, of_blank)]
            first, second = (refused(call("POST", "/predict", body, MSGPACK)) for body in bodies)
            assert first == second
    first, second = (
        refused(call("POST", "/predict", stream(pa.array([id_]), pa.array(["7"])), ARROW)) for id_ in ("", blank)
    )
    assert first == second
    bulk = {"users": [blank], "items": ["7"], "ratings": [3]}
    assert refused(call("POST", "/ratings", json.dumps(bulk).encode(), JSON))[0]["location"] == "body.users.0"
    for method, path in (
        ("GET", f"/users/{blank}/top"),
        ("GET", f"/users/{blank}/ratings"),
        ("GET", f"/users/7/because/{blank}"),
        ("GET", f"/items/{blank}"),
        ("GET", f"/items/{blank}/similar"),
        ("DELETE", f"/users/{blank}"),
        ("DELETE", f"/users/7/ratings/{blank}"),
    ):
        assert refused(call(method, path))[0]["location"] in ("path.user", "path.item")
    assert refused(call("PUT", f"/users/{blank}/ratings/7", b'{"rating": 5}', JSON))[0]["location"] == "path.user"


def test_an_id_that_is_too_long_is_refused_with_the_setting_that_says_so(call: Caller) -> None:
    long = "i" * 21
    pair, columns = {"user": long, "item": "7"}, {"users": [long], "items": ["7"]}
    for answer in (
        call("POST", "/predict", json.dumps(pair).encode(), JSON),
        call("POST", "/predict", json.dumps(columns).encode(), JSON),
        call("POST", "/predict", msgspec.msgpack.encode(columns), MSGPACK),
        call("POST", "/predict", stream(pa.array([long]), pa.array(["7"])), ARROW),
        call("POST", "/predict", json.dumps({"item": long, "ratings": []}).encode(), JSON),
        call("POST", "/recommend", json.dumps({"users": [long]}).encode(), JSON),
        call("POST", "/ratings", json.dumps(columns | {"ratings": [3]}).encode(), JSON),
        call("PUT", f"/users/7/ratings/{long}", b'{"rating": 3}', JSON),
        call("GET", f"/users/{long}/top"),
        call("GET", f"/items/{long}"),
        call("DELETE", f"/users/{long}"),
    ):
        assert answer.status == 422
        assert "an id has at most 20 characters (RATECAST_MAX_ID_LENGTH)" in json.loads(answer.body)["detail"]
