from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
import torch

from models.checkpoint.reader import Checkpoint


def top(client: httpx.Client, user: str, **parameters: object) -> httpx.Response:
    return client.get(f"/users/{quote(user, safe='')}/top", params={name: str(p) for name, p in parameters.items()})


def brute_force(loaded: Checkpoint, user: str, n: int, *, exclude_seen: bool) -> list[str]:
    items_I = torch.arange(len(loaded.items))
    row = loaded.users.row(user)
    scores = loaded.model(torch.full_like(items_I, row), items_I).tolist()
    seen = set(loaded.seen.of(row).tolist()) if exclude_seen else set()
    best = sorted(set(items_I.tolist()) - seen, key=lambda item: (-scores[item], item))[:n]
    return [loaded.items[item] for item in best]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_lists_are_what_brute_force_gives(client: httpx.Client, loaded: Checkpoint, exclude_seen: bool) -> None:
    for user in loaded.users.ids.to_pylist()[::7]:
        served = top(client, user, n=25, rank_by="rating", exclude_seen=exclude_seen).json()
        assert [item["item"] for item in served["items"]] == brute_force(loaded, user, 25, exclude_seen=exclude_seen)


def test_the_rating_shown_is_bit_for_bit_what_predict_says(client: httpx.Client) -> None:
    for user in ("196", "22", "nobody"):
        shown = top(client, user, n=400).json()["items"]
        pairs = {"users": [user] * len(shown), "items": [item["item"] for item in shown]}
        assert [item["rating"] for item in shown] == client.post("/predict", json=pairs).json()["ratings"]


def test_a_list_names_user_source_order_and_version(client: httpx.Client, loaded: Checkpoint) -> None:
    served = top(client, "196").json()
    items = served.pop("items")
    assert served == {"user": "196", "source": "model", "rank_by": "relevance", "model_version": loaded.version}
    assert len(items) == 10
    catalogue = {record["id"]: record for record in loaded.catalogue.to_pylist()}
    for item in items:
        record = catalogue[item["item"]]
        assert (item["title"], item["year"]) == (record["title"], record["year"])


def test_a_list_holds_every_item_once_where_more_are_asked_for(client: httpx.Client, loaded: Checkpoint) -> None:
    items = [item["item"] for item in top(client, "196", n=1000, exclude_seen=False).json()["items"]]
    assert sorted(items) == sorted(loaded.items.ids.to_pylist())


def test_an_unknown_user_is_shown_the_most_rated_items(client: httpx.Client, loaded: Checkpoint) -> None:
    served = top(client, "nobody", n=400).json()
    counts = loaded.seen.counts(len(loaded.items))
    expected = sorted(range(len(counts)), key=lambda item: (-counts[item], item))
    assert (served["source"], served["rank_by"]) == ("popular", "popular")
    assert [item["score"] for item in served["items"]] == [float(counts[item]) for item in expected]
    assert [item["item"] for item in served["items"]] == [loaded.items[item] for item in expected]


def test_strict_is_a_404_that_names_the_user(client: httpx.Client) -> None:
    answer = top(client, "no/body", strict=True)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:ratecast:problem:unknown-user"
    assert answer.json()["user"] == "no/body"


def test_any_character_may_stand_in_a_user_id(client: httpx.Client, strange_ids: list[str]) -> None:
    for user in strange_ids:
        answer = client.send(client.build_request("GET", f"/users/{quote(user, safe='').replace('.', '%2E')}/top"))
        assert (answer.status_code, answer.json()["user"], answer.json()["source"]) == (200, user, "model")


@pytest.mark.parametrize("n", ["0", "-1", "1000000000", "1001", "ten", "1.5", "", "9" * 5_000])
def test_a_length_that_makes_no_sense_is_refused(client: httpx.Client, n: str) -> None:
    answer = top(client, "196", n=n)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == "query.n"


@pytest.mark.parametrize(
    ("parameters", "location"),
    [
        ({"rank_by": "luck"}, "query.rank_by"),
        ({"exclude_seen": "2"}, "query.exclude_seen"),
        ({"strict": "x"}, "query.strict"),
    ],
)
def test_parameters_of_the_wrong_form_are_refused(
    client: httpx.Client, parameters: dict[str, object], location: str
) -> None:
    answer = top(client, "196", **parameters)
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, location)


@pytest.mark.parametrize("user", ["", "u" * 257])
def test_an_id_that_is_empty_or_too_long_is_refused(client: httpx.Client, user: str) -> None:
    answer = top(client, user)
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, "path.user")
