"""Ratings over HTTP: what is stored counts in the next answer, what is taken back no longer does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from app.engine.types import shortest
from app.main import create_app
from app.settings import Settings
from models.checkpoint.reader import Checkpoint
from models.fold_in import FoldIn
from models.registry.directory import publish
from tests.support.asgi import calling
from tests.support.drafts import random_draft
from tests.support.service import Start

USER, ITEM = "1", "3"
JSON = (("content-type", "application/json"),)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of this module's own: what is rated here is nobody else's business."""
    directory = tmp_path_factory.mktemp("rated")
    publish(directory, random_draft(seed=0))
    return directory


@pytest.fixture(scope="module")
def client(start: Start, directory: Path) -> Iterator[httpx.Client]:
    with start(directory, max_inline_ratings="50") as (client, _):
        yield client


def predicted(client: httpx.Client, user: str, item: str) -> tuple[float, str]:
    answer = client.post("/predict", json={"user": user, "item": item}).json()
    return answer["rating"], answer["source"]


def rate(client: httpx.Client, user: str, item: str, rating: float) -> None:
    assert client.put(f"/users/{user}/ratings/{item}", json={"rating": rating}).status_code == 200


def folded(loaded: Checkpoint, ratings: dict[str, float], item: str) -> float:
    """What the checkpoint says of somebody with these ratings, without any of the service."""
    rows = np.array([loaded.items.row(id_) for id_ in ratings])
    row = FoldIn.of(loaded.model, loaded.prior, loaded.relevance, loaded.ratings_I).users.solve(
        rows, np.array([*ratings.values()], float)
    )
    at = loaded.items.row(item)
    model = loaded.model
    rating = float(model.mean + model.item_bias[at] + row.bias) + float(model.item_factors[at].numpy() @ row.factors)
    return min(max(rating, 1.0), 5.0)


def trained(loaded: Checkpoint, user: str) -> dict[str, float]:
    row = loaded.users.row(user)
    own = slice(int(loaded.seen.offsets[row]), int(loaded.seen.offsets[row + 1]))
    ids = loaded.items.lookup(loaded.seen.items_N[own].long().numpy())
    return dict(zip(ids, shortest(loaded.seen.ratings_N[own].numpy()), strict=True))


def test_a_new_user_is_folded_in_from_the_next_answer_on(client: httpx.Client, loaded: Checkpoint) -> None:
    assert predicted(client, "new", ITEM)[1] == "item_bias"
    rate(client, "new", "5", 5)
    rate(client, "new", "9", 1)
    rating, source = predicted(client, "new", ITEM)
    assert source == "fold_in"
    assert rating == pytest.approx(folded(loaded, {"5": 5, "9": 1}, ITEM), abs=1e-5)
    listed = client.get("/users/new/top?n=400").json()
    assert listed["source"] == "fold_in"
    assert {"5", "9"}.isdisjoint(item["item"] for item in listed["items"])
    assert len(listed["items"]) == 398
    assert client.get("/users/new/top?strict=true").status_code == 200
    assert client.post("/predict?strict=true", json={"user": "new", "item": ITEM}).status_code == 200


def test_a_known_user_who_rates_is_solved_from_all_their_ratings(client: httpx.Client, loaded: Checkpoint) -> None:
    ratings = trained(loaded, "2")
    assert predicted(client, "2", ITEM)[1] == "model"
    replaced, fresh = next(iter(ratings)), next(str(item) for item in range(1, 99) if str(item) not in ratings)
    rate(client, "2", replaced, 5)
    rate(client, "2", fresh, 1)
    rating, source = predicted(client, "2", ITEM)
    assert source == "fold_in"
    assert rating == pytest.approx(folded(loaded, ratings | {replaced: 5, fresh: 1}, ITEM), abs=1e-5)
    shown = client.get("/users/2/ratings").json()["ratings"]
    assert {row["item"]: row["rating"] for row in shown} == ratings | {replaced: 5, fresh: 1}
    assert [row["item"] for row in shown] == sorted(row["item"] for row in shown)


def test_a_rating_that_is_taken_back_counts_no_longer_even_one_of_the_training_data(
    client: httpx.Client, loaded: Checkpoint
) -> None:
    ratings = trained(loaded, "3")
    item = next(iter(ratings))
    assert client.delete(f"/users/3/ratings/{item}").status_code == 200
    assert client.delete(f"/users/3/ratings/{item}").status_code == 200
    del ratings[item]
    assert predicted(client, "3", ITEM)[0] == pytest.approx(folded(loaded, ratings, ITEM), abs=1e-5)
    assert {row["item"] for row in client.get("/users/3/ratings").json()["ratings"]} == ratings.keys()


def test_columns_count_fresh_ratings_too(client: httpx.Client) -> None:
    """The same user stands there several times, among known, unknown and fresh ones."""
    rate(client, "columns", "5", 5)
    users = ["columns", "7", "nobody", "columns", "columns"]
    items = [ITEM, ITEM, ITEM, "nothing", "8"]
    answer = client.post("/predict", json={"users": users, "items": items}).json()
    alone = [predicted(client, *pair) for pair in zip(users, items, strict=True)]
    assert list(zip(answer["ratings"], answer["sources"], strict=True)) == alone
    assert answer["sources"] == ["fold_in", "model", "item_bias", "user_bias", "fold_in"]


def test_many_lists_at_once_count_fresh_ratings_too(client: httpx.Client) -> None:
    rate(client, "lists", "5", 5)
    users = ["7", "lists", "nobody", "8", "lists"]
    lists = client.post("/recommend", json={"users": users, "n": 5}).json()["lists"]
    for user, found in zip(users, lists, strict=True):
        alone = client.get(f"/users/{user}/top?n=5").json()
        del alone["model_version"]
        assert alone == found


@pytest.mark.parametrize("rank_by", ["relevance", "rating"])
def test_a_list_is_ordered_by_the_row_that_was_folded_in(
    client: httpx.Client, loaded: Checkpoint, rank_by: str
) -> None:
    rate(client, "ordered", "5", 5)
    rate(client, "ordered", "9", 1)
    listed = client.get(f"/users/ordered/top?n=398&rank_by={rank_by}").json()["items"]
    rows, given = np.array([loaded.items.row("5"), loaded.items.row("9")]), np.array([5.0, 1.0])
    folding = FoldIn.of(loaded.model, loaded.prior, loaded.relevance, loaded.ratings_I)
    if rank_by == "rating":
        row = folding.users.solve(rows, given)
        scores_I = loaded.model.item_factors[:-1].numpy() @ row.factors + loaded.model.item_bias[:-1].numpy()
    else:
        scores_I = loaded.relevance.item_factors[:-1].numpy() @ folding.head.solve(rows, given)
    found = scores_I[[loaded.items.row(item["item"]) for item in listed]]
    assert (np.diff(found) <= 1e-5).all()
    assert all(item["rating"] == predicted(client, "ordered", item["item"])[0] for item in listed[:5])


def test_a_rating_of_an_unknown_item_is_stored_and_said_to_be(client: httpx.Client) -> None:
    answer = client.put("/users/explorer/ratings/seen by one alone", json={"rating": 4, "timestamp": 77}).json()
    assert (answer["known_item"], answer["timestamp"], answer["rating"]) == (False, 77, 4)
    assert predicted(client, "explorer", ITEM)[1] in ("item_bias", "fold_in")  # once the item has a row
    (row,) = client.get("/users/explorer/ratings").json()["ratings"]
    assert row == {"item": "seen by one alone", "rating": 4, "timestamp": 77, "title": None}


def test_an_erased_user_is_an_unknown_one(client: httpx.Client, loaded: Checkpoint) -> None:
    assert predicted(client, "4", ITEM)[1] == "model"
    before = client.get("/users/4/export").json()
    assert before["known_to_model"]
    assert len(before["row"]["factors"]) == loaded.model.factors
    assert {row["item"] for row in before["ratings"]} == trained(loaded, "4").keys()
    assert client.delete("/users/4").status_code == 200
    assert predicted(client, "4", ITEM) == (predicted(client, "nobody", ITEM)[0], "item_bias")
    assert client.get("/users/4/top").json()["items"] == client.get("/users/nobody/top").json()["items"]
    assert client.get("/users/4/top?strict=true").status_code == 404
    after = client.get("/users/4/export").json()
    assert (after["ratings"], after["known_to_model"], after["row"]) == ([], False, None)
    assert client.get(f"/users/4/because/{ITEM}").status_code == 404
    rate(client, "4", "5", 5)
    assert predicted(client, "4", ITEM)[0] == pytest.approx(folded(loaded, {"5": 5}, ITEM), abs=1e-5)


def test_ids_of_any_kind_can_be_rated(client: httpx.Client, strange_ids: list[str]) -> None:
    for user in strange_ids:
        path = f"/users/{quote(user, safe='').replace('.', '%2E')}"
        assert client.put(f"{path}/ratings/5", json={"rating": 5}).json()["user"] == user
        assert predicted(client, user, ITEM)[1] == "fold_in"


# Bulk


def test_ratings_are_stored_as_columns(client: httpx.Client) -> None:
    body = {"users": ["bulk", 12345, "bulk"], "items": ["5", "6", "in bulk alone"], "ratings": [5, 1.5, 2]}
    answer = client.post("/ratings", json=body).json()
    assert (answer["stored"], answer["unknown_items"]) == (3, 1)
    assert predicted(client, "12345", ITEM)[1] == "fold_in"


def test_a_request_key_makes_a_request_idempotent(client: httpx.Client) -> None:
    body, key = {"users": ["keyed"], "items": ["5"], "ratings": [5]}, {"Idempotency-Key": "k-1"}
    assert client.post("/ratings", json=body, headers=key).status_code == 200
    rate(client, "keyed", "5", 2)
    assert client.post("/ratings", json=body, headers=key).json()["stored"] == 1
    assert client.get("/users/keyed/ratings").json()["ratings"][0]["rating"] == 2
    refused = client.post("/ratings", json=body | {"ratings": [4]}, headers=key)
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:ratecast:problem:request-key"


BAD_BULKS = {
    "unequal columns": ({"users": ["a"], "items": ["5", "6"], "ratings": [1, 2]}, "body"),
    "unequal timestamps": ({"users": ["a"], "items": ["5"], "ratings": [1], "timestamps": [1, 2]}, "body"),
    "off the scale": ({"users": ["a", "a"], "items": ["5", "6"], "ratings": [1, 9]}, "body.ratings.1"),
    "no user": ({"users": ["a", ""], "items": ["5", "6"], "ratings": [1, 1]}, "body.users.1"),
    "a NUL": ({"users": ["a", "\0"], "items": ["5", "6"], "ratings": [1, 1]}, "body.users.1"),
    "a timestamp before 1970": ({"users": ["a"], "items": ["5"], "ratings": [1], "timestamps": [-1]}, None),
    "a time in milliseconds": (
        {"users": ["a"], "items": ["5"], "ratings": [1], "timestamps": [1732600000000]},
        "body.timestamps.0",
    ),
    "no time": ({"users": ["a"], "items": ["5"], "ratings": [1], "timestamps": ["soon"]}, "body.timestamps.0"),
    "a rating as text": ({"users": ["a"], "items": ["5"], "ratings": ["1"]}, "body.ratings.0"),
    "another member": ({"users": ["a"], "items": ["5"], "ratings": [1], "stars": 1}, "body"),
}


@pytest.mark.parametrize("bad", BAD_BULKS)
def test_of_a_bad_bulk_nothing_is_stored(client: httpx.Client, bad: str) -> None:
    body, where = BAD_BULKS[bad]
    answer = client.post("/ratings", json=body)
    assert answer.status_code == 422
    assert where is None or answer.json()["errors"][0]["location"] == where
    assert client.get("/users/a/ratings").json()["ratings"] == []


TIMES = [
    (1732600000, 1732600000),
    (1732600000.0, 1732600000),
    ("2024-11-26T05:46:40Z", 1732600000),
    ("2024-11-26T05:46:40", 1732600000),
    ("2024-11-26 05:46:40.999", 1732600000),
    ("20241126T064640+0100", 1732600000),
    ("2024-11-26", 1732579200),
    ("1970-01-01T00:00:00+00:00", 0),
    ("2100-01-01", 4102444800),
    (0, 0),
]


@pytest.mark.parametrize(("time", "seconds"), TIMES)
def test_a_time_is_seconds_or_iso_8601(client: httpx.Client, time: object, seconds: int) -> None:
    answer = client.put("/users/timely/ratings/5", json={"rating": 3, "timestamp": time})
    assert answer.json()["timestamp"] == seconds


def test_an_unknown_time_of_many_is_older_than_all_others(client: httpx.Client) -> None:
    stamps = [*(time for time, _ in TIMES), None]
    items = [str(number) for number in range(len(stamps))]
    bulk = {"users": ["bulky"] * len(stamps), "items": items, "ratings": [3] * len(stamps), "timestamps": stamps}
    client.post("/ratings", json=bulk).raise_for_status()
    kept = {one["item"]: one["timestamp"] for one in client.get("/users/bulky/ratings").json()["ratings"]}
    assert [kept[item] for item in items] == [*(seconds or None for _, seconds in TIMES), None]


@pytest.mark.parametrize(
    "time", [1732600000000, -1, 1.5, "soon", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00+14:00"]
)
def test_a_time_that_is_none_is_refused_with_what_is_taken(client: httpx.Client, time: object) -> None:
    answer = client.put("/users/bad/ratings/5", json={"rating": 3, "timestamp": time})
    assert answer.status_code == 422
    wanted = "times are in whole seconds since 1970 or in ISO 8601, up to the year 2100"
    assert answer.json()["errors"] == [{"location": "body.timestamp", "message": wanted}]


def test_too_many_ratings_at_once_are_refused(client: httpx.Client) -> None:
    columns = {"users": ["a"] * 100_001, "items": ["5"] * 100_001, "ratings": [1] * 100_001}
    assert client.post("/ratings", json=columns).status_code == 422


@pytest.mark.parametrize("rating", [0.99, 5.01, "4", None, True, [], 1e999])
def test_a_rating_that_is_none_is_refused(client: httpx.Client, rating: object) -> None:
    content = f'{{"rating": {"1e999" if rating == 1e999 else json.dumps(rating)}}}'
    answer = client.put("/users/bad/ratings/5", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert client.get("/users/bad/ratings").json()["ratings"] == []


@pytest.mark.parametrize("path", ["/users/a%00b/ratings/5", "/users/a/ratings/%00", "/users/%00"])
def test_an_id_that_cannot_be_stored_is_refused(client: httpx.Client, path: str) -> None:
    method = "PUT" if "/ratings/" in path else "DELETE"
    assert client.request(method, path, json={"rating": 5}).status_code == 422


# Anonymous users


def inline(ratings: dict[str, float]) -> list[dict[str, object]]:
    return [{"item": item, "rating": rating} for item, rating in ratings.items()]


def test_somebody_without_an_id_is_predicted_from_the_ratings_given(client: httpx.Client, loaded: Checkpoint) -> None:
    ratings = {"5": 5.0, "9": 1.0, "rated by nobody": 3.0}
    answer = client.post("/predict", json={"item": ITEM, "ratings": inline(ratings)}).json()
    assert answer["rating"] == pytest.approx(folded(loaded, {"5": 5, "9": 1}, ITEM), abs=1e-5)
    assert (answer["source"], answer["ratings_used"]) == ("fold_in", 2)
    columns = client.post("/predict", json={"items": [ITEM, "nothing"], "ratings": inline(ratings)}).json()
    assert columns["sources"] == ["fold_in", "user_bias"]
    assert columns["ratings"][0] == answer["rating"]
    lists = client.post("/recommend", json={"ratings": inline(ratings), "n": 5}).json()
    assert lists["ratings_used"] == 2
    (found,) = lists["lists"]
    assert (found["user"], found["source"], len(found["items"])) == (None, "fold_in", 5)


def test_they_get_what_a_user_with_the_same_ratings_gets(client: httpx.Client) -> None:
    rate(client, "twin", "5", 5)
    rate(client, "twin", "9", 1)
    answer = client.post("/predict", json={"item": ITEM, "ratings": inline({"9": 1, "5": 5})}).json()
    assert answer["rating"] == pytest.approx(predicted(client, "twin", ITEM)[0], abs=1e-6)
    (found,) = client.post("/recommend", json={"ratings": inline({"5": 5, "9": 1})}).json()["lists"]
    assert [item["item"] for item in found["items"]] == [
        item["item"] for item in client.get("/users/twin/top").json()["items"]
    ]


def test_without_ratings_they_are_an_unknown_user(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"item": ITEM, "ratings": []}).json()
    assert (answer["rating"], answer["source"]) == predicted(client, "nobody", ITEM)
    (found,) = client.post("/recommend", json={"ratings": []}).json()["lists"]
    assert found["source"] == "popular"
    assert found["items"] == client.get("/users/nobody/top").json()["items"]


def test_nothing_of_them_is_kept(client: httpx.Client, directory: Path) -> None:
    client.post("/predict", json={"item": ITEM, "ratings": inline({"5": 5, "a very private item": 1})})
    files = [file for file in directory.rglob("ratings.sqlite*") if file.is_file()]
    assert files
    assert all(b"a very private item" not in file.read_bytes() for file in files)


def test_strictly_an_unknown_item_is_not_found(client: httpx.Client) -> None:
    body = {"items": [ITEM, "nothing"], "ratings": inline({"5": 5})}
    answer = client.post("/predict?strict=true", json=body)
    assert (answer.status_code, answer.json()["position"]) == (404, 1)


BAD_INLINE = {
    "off the scale": (inline({"5": 9}), "body.ratings.0.rating"),
    "twice the same item": (inline({"5": 1}) * 2, "body.ratings.1.item"),
    "too many": ([{"item": str(number), "rating": 1} for number in range(51)], "body.ratings"),
    "no item": ([{"rating": 1}], "body.ratings.0.item"),
    "an empty item": ([{"item": "", "rating": 1}], "body.ratings.0.item"),
    "a long item": ([{"item": "x" * 300, "rating": 1}], "body.ratings.0.item"),
    "no list": ({"5": 1}, "body.ratings"),
    "a hundred thousand": ([{"item": str(number), "rating": 1} for number in range(100_000)], "body.ratings"),
}


@pytest.mark.parametrize("bad", BAD_INLINE)
@pytest.mark.parametrize("path", ["/predict", "/recommend"])
def test_bad_inline_ratings_are_refused_by_place(client: httpx.Client, bad: str, path: str) -> None:
    ratings, where = BAD_INLINE[bad]
    body = {"ratings": ratings} | ({"item": ITEM} if path == "/predict" else {})
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == where


@pytest.mark.parametrize(
    "body",
    [
        {"user": "1", "item": "2", "ratings": []},
        {"users": ["1"], "items": ["2"], "ratings": []},
        {"ratings": []},
    ],
)
def test_ratings_are_of_somebody_without_an_id(client: httpx.Client, body: object) -> None:
    assert client.post("/predict", json=body).status_code == 422


@pytest.mark.parametrize("body", [{}, {"users": ["1"], "ratings": []}])
def test_lists_are_for_users_or_for_ratings(client: httpx.Client, body: object) -> None:
    assert client.post("/recommend", json=body).status_code == 422


# Explanations


@pytest.mark.parametrize("rank_by", ["rating", "relevance"])
@pytest.mark.parametrize("user", ["explained", "18", "28"])
def test_the_parts_add_up_to_what_is_served(client: httpx.Client, loaded: Checkpoint, user: str, rank_by: str) -> None:
    """Of a user who is folded in, and of users whose fitted rows are served."""
    ratings = {"5": 5.0, "9": 1.0, "11": 4.0} if user == "explained" else trained(loaded, user)
    if user == "explained":
        for item, rating in ratings.items():
            rate(client, user, item, rating)
    for item in (ITEM, "77", "300"):
        answer = client.get(f"/users/{user}/because/{item}?n=1000&rank_by={rank_by}").json()
        assert {reason["item"]: reason["rating"] for reason in answer["reasons"]} == ratings
        parts = answer["baseline"] + sum(reason["contribution"] for reason in answer["reasons"]) + answer["others"]
        assert parts + answer["fitted"] == pytest.approx(answer["score"], abs=1e-9)
        served = client.get(f"/users/{user}/top?only={item}&exclude_seen=false&rank_by={rank_by}").json()["items"][0]
        assert (answer["score"], answer["rating"]) == (served["score"], served["rating"])
        assert answer["rating"] == predicted(client, user, item)[0]
        if user == "explained":
            assert abs(answer["fitted"]) < 1e-5
        if rank_by == "rating":
            assert min(max(parts, 1), 5) == pytest.approx(folded(loaded, ratings, item), abs=1e-5)
        sizes = [abs(reason["contribution"]) for reason in answer["reasons"]]
        assert sizes == sorted(sizes, reverse=True)
        shorter = client.get(f"/users/{user}/because/{item}?n=2&rank_by={rank_by}").json()
        assert shorter["reasons"] == answer["reasons"][:2]
        assert shorter["others"] == pytest.approx(sum(reason["contribution"] for reason in answer["reasons"][2:]))


def test_nobody_and_nothing_are_not_explained(client: httpx.Client) -> None:
    assert client.get(f"/users/nobody/because/{ITEM}").json()["user"] == "nobody"
    assert client.get("/users/8/because/nothing").json()["item"] == "nothing"
    assert client.get(f"/users/8/because/{ITEM}?n=1001").status_code == 422


def test_similar_items_are_the_nearest_by_cosine(client: httpx.Client, loaded: Checkpoint) -> None:
    y_IG = loaded.relevance.item_factors[:-1].numpy().astype(float)
    unit_IG = y_IG / np.linalg.norm(y_IG, axis=1, keepdims=True)
    row = loaded.items.row(ITEM)
    cosine_I = unit_IG @ unit_IG[row]
    answer = client.get(f"/items/{ITEM}/similar?n=20").json()
    assert (answer["item"], len(answer["items"])) == (ITEM, 20)
    order = [other for other in np.argsort(-cosine_I) if other != row][:20]
    assert [item["item"] for item in answer["items"]] == loaded.items.lookup(np.array(order))
    assert [item["similarity"] for item in answer["items"]] == pytest.approx(cosine_I[order], abs=1e-6)
    title = client.get(f"/items/{answer['items'][0]['item']}").json()["title"]
    assert answer["items"][0]["title"] == title
    similar = {item["item"] for item in client.get(f"/items/{ITEM}/similar?n=1000").json()["items"]}
    assert similar >= {*loaded.items.ids.to_pylist()} - {ITEM}  # and items that other tests have rated
    assert client.get("/items/nothing/similar").status_code == 404


# Without a store


def test_a_service_that_keeps_no_ratings_says_so(directory: Path) -> None:
    with calling(create_app(Settings(checkpoints=directory, store="none"))) as call:
        for method, path in (("PUT", "/users/1/ratings/2"), ("DELETE", "/users/1/ratings/2"), ("DELETE", "/users/1")):
            answer = call(method, path, b'{"rating": 3}', JSON)
            assert (answer.status, json.loads(answer.body)["type"]) == (501, "urn:ratecast:problem:no-store")
        assert call("POST", "/ratings", b'{"users": [], "items": [], "ratings": []}', JSON).status == 501
        assert json.loads(call("GET", "/users/1/ratings").body)["ratings"]
        assert call("GET", "/users/1/because/2").status == 200
        body = json.dumps({"item": "2", "ratings": inline({"5": 5})}).encode()
        assert json.loads(call("POST", "/predict", body, JSON).body)["source"] == "fold_in"


# Bodies of a rating


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (b'{"rating": 4}', None),
        (b'{"rating": 4.5, "timestamp": 1}', None),
        (b'{"rating": 4, "timestamp": null}', None),
        (b'{"rating": 4, "timestamp": 7.0}', None),
        (b'{"rating": 4, "timestamp": "2024-11-26T05:46:40Z"}', None),
        (b'{"rating": 4, "timestamp": 4102444800}', None),
        (b'{"rating": 4, "timestamp": 4102444801}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": 1732600000000}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": "2200-01-01"}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": "1969-12-31T23:59:59Z"}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": "yesterday"}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": "1732600000"}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": ""}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": true}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": NaN}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": 1e999}', "body.timestamp"),
        (b'{"timestamp": 2, "rating": 1e0}', None),
        (b'{"rating": 4, "rating": 3, "timestamp": 1}', None),
        (b'{"rating": 9}', "body.rating"),
        (b'{"rating": "4"}', "body.rating"),
        (b'{"rating": true}', "body.rating"),
        (b'{"rating": NaN}', "body.rating"),
        (b'{"rating": 4, "timestamp": 1.5}', "body.timestamp"),
        (b'{"rating": 4, "timestamp": -1}', "body.timestamp"),
        (b'{"rating": 4, "stars": 1}', "body"),
        (b"{}", "body.rating"),
        (b"[]", "body"),
        (b"", "body"),
        (b"{", "body"),
        (b"\xff", "body"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/users/door/ratings/5", "/users/a%2Fb%20%C3%BC/ratings/%2e%2e", "/users/%EF%BF%BD/ratings/5"]
)
def test_a_rating_is_stored_or_what_is_wrong_is_said(
    client: httpx.Client, path: str, body: bytes, location: str | None
) -> None:
    """With and without a declared length, decoded by msgspec or by pydantic."""
    plain, other = {"Content-Type": "application/json"}, {"Content-Type": "application/json; charset=utf-8"}
    answers = [
        client.put(path, content=body, headers=plain),
        client.put(path, content=iter([body]), headers=plain),
        client.put(path, content=body, headers=other),
    ]
    assert {answer.status_code for answer in answers} == {200 if location is None else 422}
    if location is not None:
        assert [answer.json()["errors"][0]["location"] for answer in answers] == [location] * 3
    elif b"timestamp" in body and b"null" not in body:
        assert {answer.content for answer in answers} == {answers[0].content}


def test_what_is_stored_is_counted_over_time_and_since_the_fit(tmp_path: Path) -> None:
    publish(tmp_path, random_draft(seed=0))
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        for user, when in (("7", 1_700_000_000), ("8", "2023-11-14T00:00:00Z"), ("8", None)):
            body = json.dumps({"rating": 4} | ({} if when is None else {"timestamp": when})).encode()
            assert call("PUT", f"/users/{user}/ratings/{user if when else 3}", body, JSON).status == 200
        assert call("DELETE", "/users/9").status == 200
        found = json.loads(call("GET", "/ratings", query=b"days=3660").body)
        assert call("GET", "/ratings", query=b"days=0").status == 422
    days = found.pop("days")
    assert days[0] == {"day": "2023-11-14", "ratings": 2}
    assert [day["ratings"] for day in days] == [2, 1]
    assert (found["ratings"], found["users"], found["items"], found["deleted_users"]) == (3, 2, 3, 1)
    assert found["first"] == "2023-11-14T00:00:00Z"
    assert found["since_fit"] == {"users": 3, "ratings": 3}
