"""Pages, scores and diversity of lists."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from app.engine.types import shortest
from models.checkpoint.reader import Checkpoint
from models.diversity import diversified
from models.orderings import orderings

USERS = ("196", "22", "nobody")


def listed(client: httpx.Client, user: str, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/users/{user}/top", params=query).raise_for_status().json()
    return list(answer["items"])


@pytest.mark.parametrize("query", [{}, {"rank_by": "rating"}, {"genre": "Drama"}, {"diversity": 0.4}])
@pytest.mark.parametrize("user", USERS)
def test_pages_follow_one_another_without_gap_or_repetition(
    client: httpx.Client, user: str, query: dict[str, Any]
) -> None:
    whole = listed(client, user, n=400, **query)
    cut, at = [], 0
    for n in (1, 7, 40, 3, 200, 400):
        cut += listed(client, user, n=n, offset=at, **query)
        at += n
    assert cut == whole
    assert listed(client, user, n=5, offset=len(whole), **query) == []


def test_pages_of_many_users_are_those_of_each(client: httpx.Client) -> None:
    for options in ({"offset": 20, "n": 15}, {"offset": 3, "n": 9, "diversity": 0.3}):
        lists = client.post("/recommend", json={"users": [*USERS], **options}).json()["lists"]
        assert [one["items"] for one in lists] == [listed(client, user, **options) for user in USERS]


def test_pages_among_named_items_and_of_ratings_in_the_request(client: httpx.Client) -> None:
    names = [str(item) for item in range(1, 60)]
    whole = listed(client, "196", only=names, n=60)
    assert listed(client, "196", only=names, n=10, offset=10) == whole[10:20]
    ratings = {"ratings": [{"item": "3", "rating": 5}]}
    whole = client.post("/recommend", json=ratings | {"n": 60}).json()["lists"][0]["items"]
    page = client.post("/recommend", json=ratings | {"n": 20, "offset": 30}).json()["lists"][0]["items"]
    assert page == whole[30:50]


def test_pages_of_a_search_follow_one_another(client: httpx.Client) -> None:
    whole = client.get("/items?query=title&n=200").json()["items"]
    parts = [client.get(f"/items?query=title&n=50&offset={at}").json()["items"] for at in (0, 50, 100, 150)]
    assert [item for part in parts for item in part] == whole
    assert len(whole) == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "location"),
    [
        ("GET", "/users/1/top?offset=10001", None, "query.offset"),
        ("GET", "/users/1/top?offset=-1", None, "query.offset"),
        ("GET", "/users/1/top?diversity=1.1", None, "query.diversity"),
        ("GET", "/users/1/top?diversity=nan", None, "query.diversity"),
        ("GET", "/items?offset=10001", None, "query.offset"),
        ("GET", "/users/1/top?" + "genre=a&" * 21, None, "query.genre"),
        ("POST", "/recommend", {"users": ["1"], "label": ["a"] * 21}, "body.label"),
        ("POST", "/recommend", {"users": ["1"], "offset": 10001}, "body.offset"),
        ("POST", "/recommend", {"users": ["1"], "diversity": -0.1}, "body.diversity"),
        ("POST", "/recommend", {"users": ["1"] * 20, "offset": 9999}, "body"),
    ],
)
def test_a_page_that_cannot_be_is_refused(
    client: httpx.Client, method: str, target: str, body: object, location: str
) -> None:
    answer = client.request(method, target, json=body) if body else client.request(method, target)
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, location)


@pytest.mark.parametrize("order", ["relevance", "rating"])
def test_the_score_is_what_ordered_the_list(client: httpx.Client, loaded: Checkpoint, order: str) -> None:
    form = orderings(loaded.model, loaded.relevance)[order]
    one = listed(client, "196", n=30, rank_by=order)
    many = client.post("/recommend", json={"users": [*USERS], "n": 30, "rank_by": order}).json()["lists"][0]["items"]
    named = listed(client, "196", n=30, rank_by=order, only=[item["item"] for item in one])
    scores = shortest(form.scores(loaded.users.row("196"), loaded.items.rows([item["item"] for item in one])))
    assert [item["score"] for item in one] == scores == sorted(scores, reverse=True)
    assert one == many == named


def test_a_diverse_list_is_the_best_of_the_list_in_another_order(client: httpx.Client, loaded: Checkpoint) -> None:
    plain = listed(client, "196", n=500)
    rows = loaded.items.rows([item["item"] for item in plain])
    scores, factors = np.array([item["score"] for item in plain], np.float32), loaded.relevance.item_factors.numpy()
    order = diversified(scores, factors[rows], 0.5, 12)
    assert listed(client, "196", n=12, diversity=0.5) == [plain[at] for at in order]
    assert listed(client, "196", n=12, diversity=0) == plain[:12]
