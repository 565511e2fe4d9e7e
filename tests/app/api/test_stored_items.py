"""The catalogue in the store: an item that is hidden, changed, added or deleted is so in every answer."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.main import create_app
from app.settings import Settings
from models.registry.directory import publish
from models.stored_items import StoredItem, is_shown, next_change, of_items
from tests.support.asgi import Caller, ask, calling
from tests.support.drafts import random_draft

JSON = [("content-type", "application/json")]


def top(call: Caller, query: str = "") -> list[str]:
    return [item["item"] for item in ask(call, "GET", f"/users/7/top?n=400{query}")["items"]]


def shown(call: Caller, item: str) -> list[bool]:
    """Whether each kind of list, the search and the likeness show an item."""
    lists = ask(call, "POST", "/recommend", {"users": ["7", "8", "nobody"], "n": 400})["lists"]
    inline = ask(call, "POST", "/recommend", {"ratings": [{"item": "3", "rating": 5}], "n": 400})["lists"]
    of_lists = [[one["item"] for one in found["items"]] for found in (*lists, *inline)]
    others = [top(call), top(call, f"&only={item}"), top(call, "&diversity=0.3")]
    search = [one["item"] for one in ask(call, "GET", "/items?n=400")["items"]]
    similar = [one["item"] for one in ask(call, "GET", "/items/3/similar?n=400")["items"]]
    return [item in found for found in (*of_lists, *others, search, similar)]


def unseen(call: Caller) -> str:
    """An item that neither user 7 nor user 8 has rated."""
    rated = {one["item"] for user in "78" for one in ask(call, "GET", f"/users/{user}/ratings")["ratings"]}
    return next(item for item in top(call) if item.isdigit() and item not in rated and item != "3")


@pytest.mark.parametrize(
    "details",
    [{"hidden": True}, {"available_from": 4_000_000_000}, {"available_until": 1}, {"available_until": "2001-01-01"}],
)
def test_what_is_hidden_or_not_available_is_nowhere_but_predicted(call: Caller, details: dict[str, Any]) -> None:
    item = unseen(call)
    pair = {"user": "7", "item": item}
    before, predicted = ask(call, "GET", f"/items/{item}"), ask(call, "POST", "/predict", pair)
    assert set(shown(call, item)) == {True}
    changed = ask(call, "PATCH", f"/items/{item}", details)
    assert {name: changed[name] for name in ("title", "year", "genres")} == {
        name: before[name] for name in ("title", "year", "genres")
    }
    assert set(shown(call, item)) == {False}
    assert ask(call, "POST", "/predict", pair) == predicted
    ask(call, "PATCH", f"/items/{item}", dict.fromkeys(details) | {"hidden": False})
    assert set(shown(call, item)) == {True}


def test_what_is_stored_replaces_what_the_model_knew(call: Caller) -> None:
    item = unseen(call)
    details = {"title": "Another One", "year": 2026, "genres": ["Unheard of"], "labels": ["new"]}
    assert ask(call, "PUT", f"/items/{item}", details) | details == ask(call, "GET", f"/items/{item}")
    assert [one["item"] for one in ask(call, "GET", "/items?query=another one")["items"]] == [item]
    assert top(call, "&genre=Unheard of") == [item]
    assert {"name": "Unheard of", "items": 1} in ask(call, "GET", "/genres")["genres"]
    listed = ask(call, "GET", f"/users/7/top?only={item}")["items"][0]
    assert (listed["title"], listed["year"]) == ("Another One", 2026)
    assert ask(call, "PUT", f"/items/{item}", {})["title"] is None


def test_changes_of_one_item_at_once_are_all_made(call: Caller) -> None:
    for _ in range(3):
        ask(call, "PUT", "/items/5", {"title": "old"})
        both = call.at_once(("PATCH", "/items/5", b'{"hidden": true}'), ("PATCH", "/items/5", b'{"title": "new"}'))
        assert [answer.status for answer in both] == [200, 200]
        found = ask(call, "GET", "/items/5")
        assert (found["hidden"], found["title"]) == (True, "new")


def test_a_change_validates_what_it_gives_and_not_what_was_published(tmp_path: Path) -> None:
    draft, long = random_draft(seed=0), ["x" * 300]
    at = draft.items.schema.get_field_index("genres")
    genres = pa.array([long] * len(draft.items), draft.items.schema.field(at).type)
    publish(tmp_path, replace(draft, items=draft.items.set_column(at, draft.items.schema.field(at), genres)))
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        changed = ask(call, "PATCH", "/items/5", {"available_from": 7})
        assert (changed["genres"], changed["available_from"]) == (long, 7)
        ask(call, "PATCH", "/items/5", {"available_until": 7}, status=422)
        assert ask(call, "GET", "/items/5") == changed


def test_a_deleted_item_is_unknown_until_it_is_stored_again(call: Caller) -> None:
    item = unseen(call)
    assert ask(call, "DELETE", f"/items/{item}")["item"] == item
    assert set(shown(call, item)) == {False}
    ask(call, "GET", f"/items/{item}", status=404)
    ask(call, "PATCH", f"/items/{item}", {"hidden": False}, status=404)
    ask(call, "PUT", f"/items/{item}", {"title": "Back"})
    assert set(shown(call, item)) == {True}


def test_an_item_that_nothing_can_be_predicted_of_is_kept_for_the_next_fit(call: Caller) -> None:
    found = ask(call, "PUT", "/items/brand-new", {"title": "New", "genres": ["Unheard of"]})
    assert (found["known_to_model"], found["ratings"], found["title"]) == (False, 0, "New")
    assert ask(call, "GET", "/items/brand-new") == found


def test_many_items_are_stored_or_none(call: Caller) -> None:
    item = unseen(call)
    body = {"items": [{"item": item, "hidden": True}, {"item": "brand-new", "title": "New"}]}
    for _ in range(2):
        answer = ask(call, "POST", "/items", body)
        assert (answer["stored"], answer["unknown_items"]) == (2, 1)
    assert set(shown(call, item)) == {False}
    for wrong in (
        [{"item": "a"}, {"item": "a"}],
        [{"item": "b", "available_from": 5, "available_until": 5}],
        [{"item": ""}],
    ):
        ask(call, "POST", "/items", {"items": [{"item": "c"}, *wrong]}, status=422)
    ask(call, "GET", "/items/c", status=404)


@pytest.mark.parametrize(
    ("member", "most", "more"),
    [
        ("title", "x" * 4_096, "x" * 4_097),
        ("genres", [str(number) for number in range(1_000)], [str(number) for number in range(1_001)]),
        ("labels", ["y" * 256], ["y" * 257]),
    ],
)
def test_texts_of_an_item_are_bounded(call: Caller, member: str, most: object, more: object) -> None:
    assert ask(call, "PUT", "/items/6", {member: most})[member] == most
    for body in ("PUT", "/items/6", {member: more}), ("POST", "/items", {"items": [{"item": "6", member: more}]}):
        assert re.search(rf"{member}.*at most", ask(call, *body, status=422)["detail"])
    assert ask(call, "GET", "/items/6")[member] == most


def test_the_body_of_one_item_is_bounded_and_that_of_many_by_the_settings(call: Caller) -> None:
    title = json.dumps({"title": "x" * (1 << 20)}).encode()
    for method, path in ("PUT", "/items/6"), ("PATCH", "/items/6"), ("PUT", "/models/split"):
        answer = call(method, path, title, JSON)
        assert answer.status == 413
        assert b"the body of this request may have at most 1048576 bytes" in answer.body
    many = json.dumps({"items": [{"item": f"{'x' * 200}{at}", "hidden": True} for at in range(6_000)]}).encode()
    assert len(many) > 1 << 20
    assert json.loads(call("POST", "/items", many, JSON).body)["stored"] == 6_000


def test_a_request_of_a_key_that_was_used_is_answered_and_not_carried_out_again(call: Caller) -> None:
    item = unseen(call)
    hide = {"items": [{"item": item, "hidden": True}]}
    keyed = [*JSON, ("idempotency-key", "one")]

    def send(body: object) -> int:
        return call("POST", "/items", json.dumps(body).encode(), keyed).status

    assert send(hide) == 200
    ask(call, "PATCH", f"/items/{item}", {"hidden": False})
    assert send(hide) == 200
    assert not ask(call, "GET", f"/items/{item}")["hidden"]
    assert send({"items": [{"item": item}]}) == 409
    assert call("POST", "/items", json.dumps(hide).encode(), [*JSON, ("idempotency-key", "\x7f")]).status == 422


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a\0b", "NUL"), ("a\ud800", "surrogate|unicode"), ("Sci-Fi, Fantasy", "comma"), ("\u00a0 ", "blank")],
)
def test_a_text_that_cannot_be_stored_or_asked_for_is_refused_by_its_name(call: Caller, text: str, reason: str) -> None:
    before = ask(call, "GET", "/items/6")
    bodies = [({"genres": ["Drama", text]}, "genres.1"), ({"labels": [text]}, "labels.0")]
    if text[0] == "a":
        bodies.append(({"title": text}, "title"))
    for body, member in bodies:
        for method, target, whole, place in (
            ("PUT", "/items/6", body, "body"),
            ("PATCH", "/items/6", body, "body"),
            ("POST", "/items", {"items": [{"item": "5"}, {"item": "6"} | body]}, "body.items.1"),
        ):
            (error,) = ask(call, method, target, whole, status=422)["errors"]
            assert error["location"] == f"{place}.{member}"
            assert re.search(reason, error["message"])
    assert ask(call, "GET", "/items/6") == before


def test_genres_and_labels_are_stored_once_without_blanks_around_them_so_that_they_can_be_asked_for(
    call: Caller,
) -> None:
    item = unseen(call)
    stored = ask(call, "PUT", f"/items/{item}", {"genres": [" Blank ", "Blank"], "labels": ["new\u00a0", "new"]})
    assert (stored["genres"], stored["labels"]) == (["Blank"], ["new"])
    assert {"name": "Blank", "items": 1} in ask(call, "GET", "/genres")["genres"]
    assert top(call, "&genre=Blank&label=new") == [item]
    body = {"users": ["7"], "genre": ["Unheard of, Blank "]}
    assert [one["item"] for one in ask(call, "POST", "/recommend", body)["lists"][0]["items"]] == [item]


def test_another_service_on_the_store_follows_and_a_start_reads_all(directory: Path) -> None:
    with (
        calling(create_app(Settings(checkpoints=directory))) as one,
        calling(create_app(Settings(checkpoints=directory))) as other,
    ):
        item = unseen(one)
        assert item in top(other)
        ask(one, "PATCH", f"/items/{item}", {"hidden": True})
        while item in top(other):
            other.wait(0.1)
    with calling(create_app(Settings(checkpoints=directory))) as third:
        assert item not in top(third)
        newer = publish(directory, random_draft(seed=1)).version
        while ask(third, "GET", "/health/ready")["model_version"] != newer:
            third.wait(0.1)
        assert item not in top(third)


def test_time_shows_and_hides_by_itself(call: Caller) -> None:
    item, now = unseen(call), time.time()
    ask(call, "PATCH", f"/items/{item}", {"available_until": int(now) + 2})
    while time.time() < int(now) + 2.6:
        call.wait(0.1)
    assert item not in top(call)


def test_a_service_without_a_store_keeps_no_items(directory: Path) -> None:
    with calling(create_app(Settings(checkpoints=directory, store="none"))) as call:
        for method in ("PUT", "DELETE"):
            body = {} if method == "PUT" else None
            assert ask(call, method, "/items/3", body, status=501)["type"] == "urn:ratecast:problem:no-store"


def test_an_item_is_shown_from_its_begin_until_before_its_end() -> None:
    table = of_items([StoredItem("a", available_from=10, available_until=20)])
    assert [*map(bool, (is_shown(table, now)[0] for now in (9.9, 10, 19.9, 20)))] == [False, True, True, False]
    assert [next_change(table, now) for now in (9, 9.9, 10, 20)] == [10, 10, 20, float("inf")]
