"""Every method against a running service, blocking and for asyncio."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import ratecast_client as r

from tests.client.conftest import Connect
from tests.support.service import Start

KEY, ADMIN = "an-api-key-of-a-test", "an-admin-key-of-a-test"


@pytest.fixture
def client(connect: Connect, service: str) -> Any:
    return connect(service)


@pytest.fixture
def raw(service: str) -> Iterator[httpx.Client]:
    """The same service, asked without the client."""
    with httpx.Client(base_url=service) as http:
        yield http


def test_one_pair_is_the_answer_of_the_service(client: Any, raw: httpx.Client) -> None:
    found = client.predict("1", "2")
    assert found == r.PairPrediction(**raw.post("/predict", json={"user": "1", "item": "2"}).json())
    assert client.predict(1, np.int64(2)) == found
    assert client.predict("nobody", "2").source == "item_bias"


def test_many_pairs_are_answered_as_each_alone(client: Any) -> None:
    found = client.predict_many([1, "2", "nobody"], ["3", 4, 5])
    assert found.ratings == tuple(client.predict(*pair).rating for pair in ((1, 3), (2, 4), ("nobody", 5)))
    assert found.sources == ("model", "model", "item_bias")
    assert client.predict_many([], []).ratings == ()


@pytest.mark.parametrize("wrong", [None, b"1", ["1"]])
def test_an_id_that_is_neither_a_text_nor_a_number_is_a_type_error(client: Any, wrong: Any) -> None:
    for ask in (lambda: client.predict(wrong, "1"), lambda: client.top("1", exclude=[wrong])):
        with pytest.raises(TypeError):
            ask()


def test_one_text_is_not_several_ids(client: Any) -> None:
    with pytest.raises(TypeError, match="not one string"):
        client.recommend("196")


def test_ratings_in_the_request_take_the_place_of_a_user(client: Any) -> None:
    ratings = {"1": 5, 2: 4.5, "unheard of": np.float32(1)}
    one, many = client.predict_from_ratings(ratings, 7), client.predict_many_from_ratings(ratings, ["7", "8"])
    assert one.source == "fold_in"
    assert one.ratings_used == many.ratings_used == 2
    assert one.rating == many.ratings[0]
    lists = client.recommend_from_ratings(ratings, n=3)
    assert (len(lists.lists[0].items), lists.lists[0].user, lists.ratings_used) == (3, None, 2)


def test_the_list_of_a_user(client: Any, raw: httpx.Client) -> None:
    found = client.top(7, n=3)
    items = tuple(r.ListedItem(**item) for item in raw.get("/users/7/top?n=3").json()["items"])
    assert found.items == items
    assert all(item.rating == client.predict(7, item.item).rating for item in found.items)


def test_every_wish_for_a_list_is_heard(client: Any) -> None:
    usual = [item.item for item in client.top("7", n=20, rank_by="rating").items]
    assert [item.item for item in client.top("7", n=2, rank_by="rating", exclude=usual[:3]).items] == usual[3:5]
    assert {item.item for item in client.top("7", only=usual[3:5]).items} == set(usual[3:5])
    assert client.top("7", rank_by="rating").rank_by == "rating"
    dramas = client.top("7", genre=["Film-Noir"], n=5).items
    assert all("Film-Noir" in client.item(item.item).genres for item in dramas)
    seen = {rating.item for rating in client.ratings("7").ratings}
    all_items = {item.item for item in client.top("7", n=400, exclude_seen=False).items}
    assert {item.item for item in client.top("7", n=400).items} == all_items - seen
    one_way = client.recommend(["7"], n=2, rank_by="rating", exclude=usual[:1], genre=["Drama"]).lists[0]
    assert one_way.items == client.top("7", n=2, rank_by="rating", exclude=usual[:1], genre=["Drama"]).items
    with pytest.raises(ValueError, match="only is empty"):
        client.top("7", only=[])
    assert client.recommend(["7"], only=[]).lists[0].items == ()


def test_lists_of_any_number_of_users_come_one_after_the_other(client: Any) -> None:
    users = [str(number) for number in range(1, 8)]
    found = list(client.recommend_each((user for user in users), batch=3, n=2, exclude=iter(["5"])))
    assert [one.user for one in found] == users
    assert tuple(found) == client.recommend(users, n=2, exclude=["5"]).lists
    first = next(iter(client.recommend_each(users, batch=3)))
    assert first.user == "1"


def test_strict_calls_name_who_is_unknown(client: Any) -> None:
    for ask in (
        lambda: client.predict("nobody", "1", strict=True),
        lambda: client.predict_many(["1", "nobody"], ["1", "1"], strict=True),
        lambda: client.predict_from_ratings({"1": 5}, "nothing", strict=True),
        lambda: client.top("nobody", strict=True),
        lambda: client.recommend(["nobody"], strict=True),
        lambda: list(client.recommend_each(["nobody"], strict=True)),
        lambda: client.item("nothing"),
        lambda: client.similar_items("nothing"),
        lambda: client.because("nobody", "1"),
    ):
        with pytest.raises(r.NotFoundError) as caught:
            ask()
        assert caught.value.type in ("urn:ratecast:problem:unknown-user", "urn:ratecast:problem:unknown-item")
    with pytest.raises(r.NotFoundError) as caught:
        client.predict_many(["1", "nobody"], ["1", "1"], strict=True)
    assert (caught.value.problem.user, caught.value.problem.position) == ("nobody", 1)


def test_what_is_known_of_items(client: Any, raw: httpx.Client) -> None:
    assert client.item("3") == r.Item(
        **raw.get("/items/3").json() | {"genres": ("Drama", "Film-Noir"), "labels": ("new", "on sale")}
    )
    similar = client.similar_items(3, n=4)
    assert (len(similar.items), similar.item) == (4, "3")


def test_ids_of_any_characters_reach_the_service(client: Any, strange_ids: list[str]) -> None:
    for id_ in [*strange_ids, ".", "...", "a.b", "é́"]:
        assert client.top(id_, n=1).user == id_
        assert client.rate(id_, id_, 3).item == id_
        assert [rating.item for rating in client.ratings(id_).ratings if rating.timestamp] == [id_]
        assert client.delete_rating(id_, id_).item == id_
        assert client.delete_user(id_).user == id_
    assert client.item("..").item == ".."


@pytest.fixture(scope="session")
def strange_ids() -> list[str]:
    return ["a/b", "50%", "a b?c#d&e=f+g", "ünï·ço∂é", "..", '"', "'", "\\", "a\nb", "x\ty", "%2F", "top"]


def test_an_empty_id_is_refused_at_once(client: Any) -> None:
    with pytest.raises(ValueError, match="at least one character"):
        client.top("")


def test_ratings_are_stored_shown_explained_and_taken_back(client: Any) -> None:
    stored = client.rate("me", 3, 4.5, timestamp=99)
    assert (stored.user, stored.item, stored.rating, stored.timestamp) == ("me", "3", 4.5, 99)
    many = client.rate_many(["me", "me"], [4, "unheard of"], [np.float64(2), 1], timestamps=[np.int64(5), 6])
    assert (many.stored, many.unknown_items) == (2, 1)
    kept = {rating.item: (rating.rating, rating.timestamp) for rating in client.ratings("me").ratings}
    assert kept == {"3": (4.5, 99), "4": (2.0, 5), "unheard of": (1.0, 6)}
    assert client.predict("me", 9).source == client.top("me").source == "fold_in"
    reasons = client.because("me", 9, n=1)
    assert len(reasons.reasons) == 1
    assert client.delete_rating("me", 3).item == "3"
    assert [rating.item for rating in client.ratings("me").ratings] == ["4", "unheard of"]
    assert client.export_user("me").ratings == client.ratings("me").ratings
    assert client.delete_user("me").user == "me"
    assert client.export_user("me").ratings == ()
    assert len(client.export_user("1").row.factors) == client.current_model().shape.factors


TWO_HOURS_EAST = timezone(timedelta(hours=2))
TIMES = [
    1732600000,
    np.int64(1732600000),
    "2024-11-26T05:46:40Z",
    "2024-11-26T06:46:40+01:00",
    "2024-11-26T05:46:40",
    datetime(2024, 11, 26, 5, 46, 40),
    datetime(2024, 11, 26, 5, 46, 40, 999, tzinfo=UTC),
    datetime(2024, 11, 26, 7, 46, 40, tzinfo=TWO_HOURS_EAST),
    pd.Timestamp("2024-11-26T05:46:40.123456789Z"),
]


@pytest.mark.parametrize("time", TIMES)
def test_times_of_every_kind_are_stored_as_seconds(client: Any, time: Any) -> None:
    assert client.rate("timely", 3, 4, timestamp=time).timestamp == 1732600000
    client.rate_many(["timely"] * 2, [4, 5], [1, 2], timestamps=[time, None])
    kept = {rating.item: rating.timestamp for rating in client.ratings("timely").ratings}
    assert kept == {"3": 1732600000, "4": 1732600000, "5": None}


def test_a_time_in_milliseconds_is_refused(client: Any) -> None:
    with pytest.raises(r.InvalidError, match="in whole seconds since 1970 or in ISO 8601"):
        client.rate("timely", 3, 4, timestamp=1732600000000)
    with pytest.raises(TypeError):
        client.rate("timely", 3, 4, timestamp=1.5)


def test_ratings_with_a_key_of_ones_own_are_stored_once(client: Any) -> None:
    key = f"key-{type(client).__name__}"
    client.rate_many(["keyed"], ["1"], [5], idempotency_key=key)
    client.delete_rating("keyed", "1")
    client.rate_many(["keyed"], ["1"], [5], idempotency_key=key)
    assert client.ratings("keyed").ratings == ()
    with pytest.raises(r.ConflictError):
        client.rate_many(["keyed"], ["1"], [4], idempotency_key=key)
    client.rate_many(["keyed"], ["1"], [5])
    assert len(client.ratings("keyed").ratings) == 1
    client.delete_user("keyed")


def test_what_is_wrong_with_a_request_is_said_part_by_part(client: Any) -> None:
    with pytest.raises(r.InvalidError) as caught:
        client.rate("1", "1", 99)
    assert caught.value.errors == (r.FieldError(location="body.rating", message="a rating must be between 1 and 5"),)
    assert str(caught.value).startswith("PUT /users/1/ratings/1: 422 Invalid request: a rating must be between 1 and 5")
    assert caught.value.request_id


@pytest.mark.parametrize("rating", [float("nan"), float("inf")])
def test_a_rating_that_is_no_number_is_refused_at_once(client: Any, rating: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.rate("1", "1", rating)


def test_models_and_health_are_those_of_the_service(client: Any, raw: httpx.Client) -> None:
    current, (published,) = client.current_model(), client.models().models
    assert current.version == published.version == client.ready().model_version
    assert published.serving
    assert current.created_at == published.created_at
    assert current.created_at.tzinfo is not None
    assert current.metrics == {"rmse": 1.5, "coverage90": None}
    assert current.shape.relevance_rule.slope == raw.get("/models/current").json()["shape"]["relevance_rule"]["slope"]
    assert client.live() == r.Live()
    assert client.activate(current.version).model_version == current.version
    with pytest.raises(r.NotFoundError):
        client.activate("a-version-of-nobody")
    assert "ratecast_" in client.metrics()


@pytest.fixture(scope="module")
def guarded_service(start: Start, checkpoints: Path) -> Iterator[str]:
    """URL of a service that asks for keys, allows one request a second with each, and keeps no ratings."""
    with start(checkpoints, api_keys=KEY, admin_keys=ADMIN, store="none", rate_limit="1") as (http, _):
        yield str(http.base_url)


def test_keys_decide_what_is_answered(connect: Connect, guarded_service: str) -> None:
    with pytest.raises(r.UnauthorizedError):
        connect(guarded_service).predict("1", "2")
    assert connect(guarded_service).ready().status == "ready"
    assert connect(guarded_service, KEY).predict("1", "2").source == "model"
    with pytest.raises(r.ForbiddenError):
        connect(guarded_service, KEY).activate("any")
    with pytest.raises(r.NotFoundError):
        connect(guarded_service, ADMIN).activate("any")
    with pytest.raises(r.ServerError) as caught:
        connect(guarded_service, ADMIN).rate("1", "2", 3)
    assert caught.value.type == "urn:ratecast:problem:no-store"


def test_a_share_that_is_used_up_is_waited_for(connect: Connect, guarded_service: str) -> None:
    """The client's clock is the real one."""
    assert {connect(guarded_service, KEY).predict("1", "2").source for _ in range(2)} == {"model"}
    hasty = connect(guarded_service, KEY, retries=r.Retries(attempts=1))
    with pytest.raises(r.TooManyRequestsError) as caught:
        list(map(hasty.predict, "11111", "22222"))
    assert caught.value.retry_after == 1
