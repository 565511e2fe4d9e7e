"""Items that the model was not fitted to: predicted, listed, found and explained before the next fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings
from models.registry.directory import publish
from tests.support.asgi import Caller, ask, calling
from tests.support.drafts import random_draft

PATIENCE = 30.0
ITEM = "brand new"
WESTERN = {"title": "A Western that nobody has seen", "year": 1999, "genres": ["Drama"], "labels": None}
PAIR = {"user": "7", "item": ITEM}


def until(call: Caller, condition: Callable[[], object]) -> None:
    """Let the service work until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        call.wait(0.05)


def source(call: Caller, user: str = "7") -> str:
    found: str = ask(call, "POST", "/predict", {"user": user, "item": ITEM})["source"]
    return found


def rate(call: Caller, item: str, ratings: dict[str, float]) -> None:
    for user, rating in ratings.items():
        ask(call, "PUT", f"/users/{user}/ratings/{item}", {"rating": rating})


def listed(call: Caller, query: str = "") -> list[str]:
    return [item["item"] for item in ask(call, "GET", f"/users/7/top?n=1000{query}")["items"]]


def test_an_item_of_known_genres_is_predicted_listed_found_and_explained(call: Caller) -> None:
    unknown = ask(call, "POST", "/predict", PAIR)
    assert unknown["source"] == "user_bias"
    ask(call, "PUT", f"/items/{ITEM}", WESTERN)
    until(call, lambda: source(call) == "fold_in")
    predicted = ask(call, "POST", "/predict", PAIR)
    assert predicted["rating"] != unknown["rating"]
    many = ask(call, "POST", "/predict?intervals=true", {"users": ["7", "nobody", "7"], "items": [ITEM, ITEM, "3"]})
    assert many["sources"] == ["fold_in", "item_bias", "model"]
    assert many["ratings"][0] == predicted["rating"]
    assert ITEM in listed(call)
    assert ITEM in listed(call, "&rank_by=rating&genre=Drama&year_min=1999&year_max=1999")
    assert ITEM not in listed(call, "&genre=Film-Noir")
    assert [one["item"] for one in ask(call, "GET", "/items?query=a western that")["items"]] == [ITEM]
    assert ask(call, "GET", f"/items/{ITEM}") | WESTERN | {"known_to_model": True, "ratings": 0} == ask(
        call, "GET", f"/items/{ITEM}"
    )
    assert ask(call, "GET", f"/items/{ITEM}/similar?n=3")["items"]
    for order in ("rating", "relevance"):
        because = ask(call, "GET", f"/users/7/because/{ITEM}?rank_by={order}&n=1000")
        assert because["reasons"]


def test_its_ratings_move_what_is_predicted_and_its_hidden_state_keeps_it_from_lists(call: Caller) -> None:
    ask(call, "PUT", f"/items/{ITEM}", WESTERN)
    until(call, lambda: source(call) == "fold_in")
    before = ask(call, "POST", "/predict", PAIR)["rating"]
    rate(call, ITEM, {str(user): 5.0 for user in range(20, 60)})
    until(call, lambda: ask(call, "POST", "/predict", PAIR)["rating"] > before)
    ask(call, "PATCH", f"/items/{ITEM}", {"hidden": True})
    assert ITEM not in listed(call)
    assert source(call) == "fold_in"
    ask(call, "PATCH", f"/items/{ITEM}", {"hidden": False})
    until(call, lambda: ITEM in listed(call))


def test_an_item_that_is_only_rated_is_known_until_its_ratings_are_deleted(call: Caller) -> None:
    rate(call, ITEM, {"fresh": 5.0, "8": 4.0})
    rate(call, "3", {"fresh": 1.0})
    until(call, lambda: source(call) == "fold_in")
    assert source(call, "fresh") == "fold_in"
    assert ITEM in listed(call)
    assert ITEM not in [item["item"] for item in ask(call, "GET", "/users/fresh/top?n=1000")["items"]]
    ask(call, "DELETE", f"/users/8/ratings/{ITEM}")
    call("DELETE", "/users/fresh")
    until(call, lambda: source(call) == "user_bias")
    assert ITEM not in listed(call)


def test_a_deleted_item_is_unknown_again(call: Caller) -> None:
    ask(call, "PUT", f"/items/{ITEM}", WESTERN)
    rate(call, ITEM, {"8": 4.0})
    until(call, lambda: source(call) == "fold_in")
    call("DELETE", f"/items/{ITEM}")
    until(call, lambda: source(call) == "user_bias")
    assert ITEM not in listed(call)


def test_what_nothing_is_known_of_is_in_no_list(call: Caller) -> None:
    ask(call, "PUT", "/items/named", {"title": "Nothing but a name"})
    ask(call, "PUT", f"/items/{ITEM}", WESTERN)
    until(call, lambda: source(call) == "fold_in")
    assert "named" not in listed(call)
    assert ask(call, "POST", "/predict", {"user": "7", "item": "named"})["source"] == "user_bias"


def test_the_live_error_of_a_new_item_is_that_of_an_unknown_one(call: Caller) -> None:
    """Its row follows from the ratings that are to be compared."""
    rate(call, ITEM, {str(user): 5.0 for user in range(20, 30)})

    def figures() -> list[Any]:
        quality = ask(call, "GET", "/quality")
        return [] if quality["waiting"] else [one for one in quality["figures"] if one["ratings"] == 10]

    until(call, figures)
    assert {one["source"] for one in figures()} == {"unknown", "all"}


def test_the_most_rated_are_answered_for_where_there_are_more_than_the_setting_allows(directory: Path) -> None:
    with calling(create_app(Settings(checkpoints=directory, new_items=1))) as call:
        rate(call, "once", {"8": 4.0})
        rate(call, ITEM, {"8": 4.0, "9": 5.0})
        until(call, lambda: source(call) == "fold_in")
        assert ask(call, "POST", "/predict", {"user": "7", "item": "once"})["source"] == "user_bias"
    with calling(create_app(Settings(checkpoints=directory, new_items=0))) as call:
        call.wait(2.0)
        assert source(call) == "user_bias"


def test_a_new_version_answers_for_the_items_that_it_does_not_have(call: Caller, directory: Path) -> None:
    ask(call, "PUT", f"/items/{ITEM}", WESTERN)
    until(call, lambda: source(call) == "fold_in")
    manifest = publish(directory, random_draft(seed=1))
    until(call, lambda: ask(call, "GET", "/models/current")["version"] == manifest.version)
    until(call, lambda: source(call) == "fold_in")


def test_other_changes_of_the_catalogue_leave_the_rows_as_they_are(call: Caller) -> None:
    ask(call, "PUT", f"/items/{ITEM}", WESTERN)
    rate(call, ITEM, {"8": 4.0})
    until(call, lambda: source(call) == "fold_in")
    before = ask(call, "POST", "/predict", PAIR)
    ask(call, "PATCH", "/items/3", {"title": "Another title"})
    ask(call, "PATCH", f"/items/{ITEM}", {"title": "A better title"})
    until(call, lambda: ask(call, "GET", "/items?query=a better title")["items"])
    call.wait(1.5)
    assert ask(call, "POST", "/predict", PAIR) == before
    assert [one["item"] for one in ask(call, "GET", "/items?query=another title")["items"]] == ["3"]


def test_ratings_that_were_stored_before_the_start_count(directory: Path) -> None:
    with calling(create_app(Settings(checkpoints=directory))) as call:
        rate(call, ITEM, {str(user): 5.0 for user in range(20, 60)})
        until(call, lambda: source(call) == "fold_in")
        before = ask(call, "POST", "/predict", PAIR)
    with calling(create_app(Settings(checkpoints=directory))) as call:
        until(call, lambda: source(call) == "fold_in")
        until(call, lambda: ask(call, "POST", "/predict", PAIR) == before)
