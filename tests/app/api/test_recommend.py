from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from app.engine.engine import Engine
from app.engine.threads import Cancelled
from app.engine.types import ListQuery, TopList
from app.main import create_app
from app.settings import Settings
from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.orderings import orderings
from models.registry.directory import publish
from tests.support.asgi import calling


def recommend(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/recommend", json=body)


def listed(answer: dict[str, Any]) -> list[str]:
    return [item["item"] for item in answer["items"]]


@pytest.mark.parametrize("rank_by", ["relevance", "rating"])
def test_each_order_is_a_sort_of_every_exact_score(client: httpx.Client, loaded: Checkpoint, rank_by: str) -> None:
    users = loaded.users.ids.to_pylist()[::11]
    ordering, items_I = orderings(loaded.model, loaded.relevance)[rank_by], torch.arange(len(loaded.items))
    lists = recommend(client, users=users, n=30, rank_by=rank_by).json()["lists"]
    for user, answer in zip(users, lists, strict=True):
        row = loaded.users.row(user)
        scores, seen = (
            ordering.exact(torch.full_like(items_I, row), items_I).tolist(),
            set(loaded.seen.of(row).tolist()),
        )
        best = sorted(set(items_I.tolist()) - seen, key=lambda item: (-scores[item], item))[:30]
        assert listed(answer) == [loaded.items[item] for item in best]
        assert (answer["user"], answer["rank_by"], answer["source"]) == (user, rank_by, "model")


def test_lists_together_are_the_lists_alone(client: httpx.Client) -> None:
    """Known and unknown users, one of them twice, more than fit into a batch."""
    users = [str(number) for number in range(1, 200)] + ["nobody", "1", "a/b"]
    wish = {"n": 7, "genre": ["Drama"], "exclude": ["3", "nothing"]}
    together = recommend(client, users=users, **wish).json()
    assert [answer["user"] for answer in together["lists"]] == users
    for user, answer in [*list(zip(users, together["lists"], strict=True))[::20], ("nobody", together["lists"][-3])]:
        alone = recommend(client, users=[user], **wish).json()["lists"][0]
        assert answer == alone


def test_relevance_orders_by_default_where_the_model_has_it(client: httpx.Client) -> None:
    assert client.get("/users/1/top").json() == client.get("/users/1/top?rank_by=relevance").json()
    assert client.get("/users/1/top").json()["rank_by"] == "relevance"


def test_an_order_that_the_model_lacks_is_refused(client: httpx.Client) -> None:
    for answer in (
        client.get("/users/1/top?rank_by=lower_bound"),
        client.get("/users/nobody/top?rank_by=lower_bound"),
        recommend(client, users=["1"], rank_by="lower_bound"),
    ):
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:ratecast:problem:ordering-unavailable"


@pytest.mark.parametrize("user", ["1", "nobody"])
def test_filters_choose_before_the_list_is_cut(client: httpx.Client, loaded: Checkpoint, user: str) -> None:
    everything = listed(client.get(f"/users/{user}/top?n=400").json())
    genres = dict(zip(loaded.items.ids.to_pylist(), loaded.catalogue["genres"].to_pylist(), strict=True))
    dramas = [item for item in everything if "Drama" in genres[item]]

    def top(query: str) -> list[str]:
        return listed(client.get(f"/users/{user}/top?{query}").json())

    assert top("genre=Drama") == dramas[:10]
    assert top(f"exclude={everything[0]}&exclude={everything[2]}&n=2") == [everything[1], everything[3]]
    assert top(f"only={everything[9]}&only={everything[3]}&only={everything[3]}") == [everything[3], everything[9]]
    assert top(f"only={everything[9]}&only={dramas[1]}&only={dramas[0]}&genre=Drama&exclude={dramas[0]}") == [
        item for item in everything if item in (everything[9], dramas[1]) and item in dramas and item != dramas[0]
    ]


@pytest.mark.parametrize(
    "query",
    ["genre=Nothing", "label=nothing", "genre=Drama&genre=Nothing", "only=nothing", "only=1&exclude=1", "only=&n=3"],
)
def test_a_filter_that_leaves_nothing_gives_an_empty_list(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/users/1/top?{query}")
    assert (answer.status_code, answer.json()["items"]) == (200, [])


def test_items_that_were_seen_are_listed_on_demand_alone(client: httpx.Client, loaded: Checkpoint) -> None:
    seen = [loaded.items[item] for item in loaded.seen.of(loaded.users.row("1")).tolist()]
    query = "&".join(f"only={item}" for item in seen)
    assert listed(client.get(f"/users/1/top?{query}").json()) == []
    assert sorted(listed(client.get(f"/users/1/top?{query}&exclude_seen=false&n=400").json())) == sorted(seen)


def test_no_users_get_no_lists(client: httpx.Client, loaded: Checkpoint) -> None:
    assert recommend(client, users=[]).json() == {"lists": [], "model_version": loaded.version}


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({}, "body"),
        ({"users": "1"}, "body.users"),
        ({"users": [""]}, "body.users.0"),
        ({"users": ["u" * 257]}, "body.users.0"),
        ({"users": ["1"], "n": 0}, "body.n"),
        ({"users": ["1"], "n": 1001}, "body.n"),
        ({"users": ["1"], "rank_by": "luck"}, "body.rank_by"),
        ({"users": ["1"], "more": 1}, "body"),
        ({"users": ["1"], "only": [""] * 1000}, "body.only.0"),
        ({"users": ["1"], "only": ["1"] * (Settings().max_pairs + 1)}, "body.only"),
        ({"users": ["1"], "exclude": ["1"] * (Settings().max_pairs + 1)}, "body.exclude"),
        ({"users": ["1"] * (Settings().max_pairs // 1000 + 1), "n": 1000}, "body"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_requests_that_make_no_sense_are_refused(client: httpx.Client, body: dict[str, Any], location: str) -> None:
    answer = recommend(client, **body)
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, location)


def test_a_thousand_users_are_answered_in_their_order(client: httpx.Client) -> None:
    users = [str(number % 290 + 1) for number in range(1_000)]
    answer = recommend(client, users=users, n=5).json()
    assert [found["user"] for found in answer["lists"]] == users
    assert answer["lists"][:100] == answer["lists"][290:390]


def test_an_empty_choice_leaves_nothing(client: httpx.Client) -> None:
    answer = recommend(client, users=["1", "nobody"], only=[])
    assert (answer.status_code, [found["items"] for found in answer.json()["lists"]]) == (200, [[], []])


def test_the_lists_name_the_model_they_came_from_though_another_came_meanwhile(
    tmp_path: Path, make_draft: Callable[..., Draft]
) -> None:
    version = publish(tmp_path, make_draft(1)).version
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        engine: Engine = call._state["engine"]
        publish(tmp_path, make_draft(2))
        top = engine.lists.top_many

        async def top_then_load(
            queries: Sequence[ListQuery], cancelled: Cancelled, version: str | None
        ) -> list[TopList]:
            answers = await top(queries, cancelled, version)
            await engine.versions.start()
            return answers

        engine.lists.top_many = top_then_load  # type: ignore[method-assign]
        answer = call("POST", "/recommend", b'{"users": ["1"]}', (("content-type", "application/json"),))
        assert engine.versions.manifest.version != version
    assert json.loads(answer.body)["model_version"] == version


def test_strict_names_the_first_unknown_user(client: httpx.Client) -> None:
    answer = client.post("/recommend?strict=true", json={"users": ["1", "x", "y"]})
    assert answer.status_code == 404
    assert (answer.json()["user"], answer.json()["position"]) == ("x", 1)


def test_a_comma_is_or_and_a_repeated_filter_is_and(client: httpx.Client, loaded: Checkpoint) -> None:
    records = {record["id"]: record for record in loaded.catalogue.to_pylist()}

    def names(query: str) -> set[str]:
        answer = client.get(f"/users/nobody/top?n=1000&{query}").raise_for_status().json()
        return {item["item"] for item in answer["items"]}

    def having(column: str, *wanted: str) -> set[str]:
        return {id_ for id_, record in records.items() if {*wanted} & {*(record[column] or ())}}

    assert names("genre=Film-Noir,Nothing") == having("genres", "Film-Noir")
    assert names("genre=Drama&genre=Film-Noir") == having("genres", "Drama") & having("genres", "Film-Noir")
    assert names("label=on sale") == having("labels", "on sale")
    assert names("label=new, on sale&genre=Drama") == having("labels", "new") & having("genres", "Drama")
    body = {"users": ["nobody"], "n": 400, "label": ["new,on sale"], "genre": ["Drama", "Film-Noir"]}
    (listed,) = client.post("/recommend", json=body).raise_for_status().json()["lists"]
    assert {item["item"] for item in listed["items"]} == names("label=new,on sale&genre=Drama&genre=Film-Noir")
    found = client.get("/items?n=400&label=on sale").json()["items"]
    assert {item["item"] for item in found} == having("labels", "on sale")
