"""Who has rated an item, and who would like it: as the ratings of all users say, whatever was stored since the fit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.checkpoint.manifest import Snapshot
from models.registry.directory import publish
from tests.support.asgi import Caller, ask, calling
from tests.support.drafts import random_draft

ITEM = "3"
USERS = [str(number) for number in range(1, 288)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    publish(folder, random_draft(seed=0))
    return folder


@pytest.fixture
def call(directory: Path, tmp_path: Path) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=directory, store=f"sqlite:///{tmp_path}/ratings.sqlite"))) as call:
        yield call


def rate(call: Caller, user: str, item: str, rating: float, timestamp: int) -> None:
    ask(call, "PUT", f"/users/{user}/ratings/{item}", {"rating": rating, "timestamp": timestamp})


def given(call: Caller, item: str) -> dict[str, float]:
    """The ratings of an item, as the users' own ratings say."""
    ratings = {user: ask(call, "GET", f"/users/{user}/ratings")["ratings"] for user in [*USERS, "new"]}
    return {user: one["rating"] for user, own in ratings.items() for one in own if one["item"] == item}


def as_counted(answer: dict[str, Any]) -> dict[str, float]:
    """The ratings that an answer lists, which must agree with what it counts."""
    listed = {one["user"]: one["rating"] for one in answer["latest"]}
    levels = {level["rating"]: level["ratings"] for level in answer["levels"]}
    assert answer["ratings"] == len(listed) == sum(levels.values())
    assert levels == {rating: [*listed.values()].count(rating) for rating in sorted({*listed.values()})}
    assert answer["mean_rating"] == pytest.approx(fmean(listed.values()))
    return listed


def test_the_ratings_of_an_item_are_those_that_its_users_have(call: Caller) -> None:
    before = as_counted(ask(call, "GET", f"/items/{ITEM}/ratings?n=1000"))
    assert {user: rating for user, rating in before.items() if user in USERS} == given(call, ITEM)
    replaced, deleted, erased = [user for user in before if user in USERS][:3]
    rate(call, replaced, ITEM, 5, 2_000)
    rate(call, "new", ITEM, 1, 3_000)
    ask(call, "DELETE", f"/users/{deleted}/ratings/{ITEM}")
    ask(call, "DELETE", f"/users/{erased}")
    answer = ask(call, "GET", f"/items/{ITEM}/ratings?n=1000")
    after = as_counted(answer)
    expected = {user: rating for user, rating in before.items() if user not in (deleted, erased)}
    assert after == expected | {replaced: 5, "new": 1}
    assert [(one["user"], one["timestamp"]) for one in answer["latest"][:3]][:2] == [("new", 3_000), (replaced, 2_000)]
    assert {one["timestamp"] for one in answer["latest"][2:]} == {None}
    assert ask(call, "GET", f"/items/{ITEM}/ratings?n=1")["latest"] == answer["latest"][:1]


def test_an_item_that_only_the_store_knows_has_ratings_and_one_that_nobody_rated_is_a_404(call: Caller) -> None:
    rate(call, "7", "brand new", 4, 0)
    answer = ask(call, "GET", "/items/brand%20new/ratings")
    assert as_counted(answer) == {"7": 4}
    assert answer["latest"] == [{"user": "7", "rating": 4, "timestamp": None}]  # 0 is an unknown time
    for path in ("/items/nothing/ratings", "/items/brand%20new/users"):
        assert call("GET", path).status == 404


def test_many_different_ratings_are_counted_at_twenty_levels(call: Caller) -> None:
    for number in range(25):
        rate(call, f"someone {number}", "brand new", 1 + number * 0.16, 1_000)
    answer = ask(call, "GET", "/items/brand%20new/ratings")
    assert len(answer["levels"]) == 20
    assert answer["levels"][0]["rating"] == 1
    assert answer["levels"][-1]["rating"] == 5
    assert sum(level["ratings"] for level in answer["levels"]) == 25


def test_those_who_would_like_an_item_are_first_by_what_is_predicted(call: Caller) -> None:
    users = ask(call, "GET", f"/items/{ITEM}/users?n=1000")["users"]
    rated = {one["user"] for one in ask(call, "GET", f"/items/{ITEM}/ratings?n=1000")["latest"]}
    assert {one["user"] for one in users}.isdisjoint(rated)
    assert len(users) == 300 - len(rated)
    asked = {"users": [one["user"] for one in users], "items": [ITEM] * len(users)}
    assert ask(call, "POST", "/predict", asked)["ratings"] == [one["rating"] for one in users]
    ratings = [one["rating"] for one in users]
    assert ratings == sorted(ratings, reverse=True)


def test_what_is_stored_changes_who_would_like_an_item(call: Caller) -> None:
    likely = [one["user"] for one in ask(call, "GET", f"/items/{ITEM}/users?n=10")["users"] if one["user"] in USERS]
    rate(call, likely[0], ITEM, 5, 1_000)
    ask(call, "DELETE", f"/users/{likely[1]}")
    rate(call, likely[2], "4", 1, 1_000)
    answer = {one["user"]: one for one in ask(call, "GET", f"/items/{ITEM}/users?n=1000")["users"]}
    assert likely[0] not in answer
    assert likely[1] not in answer
    predicted = ask(call, "POST", "/predict", {"user": likely[2], "item": ITEM})
    assert (answer[likely[2]]["rating"], answer[likely[2]]["source"]) == (predicted["rating"], "fold_in")


def test_hidden_items_are_found_by_themselves(call: Caller) -> None:
    assert ask(call, "GET", "/items?hidden=true")["items"] == []
    ask(call, "PATCH", f"/items/{ITEM}", {"hidden": True})
    for query, found in (
        ("hidden=true", [ITEM]),
        ("hidden=true&query=title", [ITEM]),
        ("hidden=true&year_max=1900", []),
    ):
        assert [one["item"] for one in ask(call, "GET", f"/items?{query}")["items"]] == found
    assert ITEM not in {one["item"] for one in ask(call, "GET", "/items?n=1000")["items"]}


def test_a_model_that_was_fitted_on_the_store_adds_no_training_ratings(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/ratings.sqlite"
    publish(tmp_path, random_draft(seed=0))
    with calling(create_app(Settings(checkpoints=tmp_path, store=store))) as call:
        rate(call, "7", ITEM, 4, 1_000)
    with closing(sqlite3.connect(tmp_path / "ratings.sqlite")) as connection:
        id_, revision = connection.execute("select id, revision from ratecast_store").fetchone()
    draft = random_draft(seed=0)
    data = draft.data.model_copy(update={"snapshot": Snapshot(store=id_, revision=revision)})
    publish(tmp_path, replace(draft, data=data))
    with calling(create_app(Settings(checkpoints=tmp_path, store=store))) as call:
        assert as_counted(ask(call, "GET", f"/items/{ITEM}/ratings")) == {"7": 4}


def test_to_read_the_ratings_of_an_item_needs_an_admin_key(directory: Path) -> None:
    settings = Settings(
        checkpoints=directory,
        store="none",
        api_keys=SecretStr("client-key-0123456789"),
        admin_keys=SecretStr("admin-key-0123456789"),
    )
    with calling(create_app(settings)) as call:
        for key, status in (("client", 403), ("admin", 200)):
            headers = [("authorization", f"Bearer {key}-key-0123456789")]
            assert call("GET", f"/items/{ITEM}/ratings", headers=headers).status == status
            assert call("GET", f"/items/{ITEM}/users", headers=headers).status == 200
