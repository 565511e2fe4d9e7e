from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import torch

from app.engine.types import shortest
from models.checkpoint.reader import Checkpoint

JSON = {"content-type": "application/json"}


def offline(loaded: Checkpoint, users: list[str], items: list[str]) -> list[float]:
    """What the checkpoint says, without the service."""
    users_B, items_B = torch.from_numpy(loaded.users.rows(users)), torch.from_numpy(loaded.items.rows(items))
    scale = loaded.manifest.model
    return shortest(loaded.model(users_B, items_B).clamp(scale.rating_min, scale.rating_max).numpy())


def test_a_pair_is_answered_with_the_rating_that_the_model_predicts(client: httpx.Client, loaded: Checkpoint) -> None:
    answer = client.post("/predict", json={"user": "196", "item": "242"})
    (rating,) = offline(loaded, ["196"], ["242"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"rating": rating, "source": "model", "model_version": loaded.version}


def test_columns_are_answered_in_their_order_also_with_unknown_ids(client: httpx.Client, loaded: Checkpoint) -> None:
    users, items = ["196", "22", "nobody", "nobody"], ["242", "nothing", "50", "nothing"]
    assert client.post("/predict", json={"users": users, "items": items}).json() == {
        "ratings": offline(loaded, users, items),
        "sources": ["model", "user_bias", "item_bias", "global_mean"],
        "model_version": loaded.version,
    }


def test_ten_thousand_random_pairs_are_what_the_offline_model_says(client: httpx.Client, loaded: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    users = [str(number) for number in rng.integers(0, 320, 10_000)]
    items = [str(number) for number in rng.integers(0, 420, 10_000)]
    served = client.post("/predict", json={"users": users, "items": items}).json()["ratings"]
    np.testing.assert_allclose(served, offline(loaded, users, items), rtol=0, atol=1e-6)


def test_a_pair_in_a_batch_has_the_bits_of_the_pair_alone(client: httpx.Client) -> None:
    users, items = ["196", "22", "7", "nobody"] * 3, [str(number) for number in range(1, 13)]
    batch = client.post("/predict", json={"users": users, "items": items}).json()["ratings"]
    alone = [
        client.post("/predict", json={"user": user, "item": item}).json()["rating"]
        for user, item in zip(users, items, strict=True)
    ]
    assert batch == alone


def test_integers_are_read_as_strings(client: httpx.Client) -> None:
    as_numbers = client.post("/predict", json={"user": 196, "item": 242}).json()
    assert as_numbers == client.post("/predict", json={"user": "196", "item": "242"}).json()
    columns = client.post("/predict", json={"users": [196, "196"], "items": ["242", 242]}).json()
    assert columns["ratings"] == [as_numbers["rating"]] * 2


def test_strange_ids_are_ids_like_any_other(client: httpx.Client, strange_ids: list[str]) -> None:
    answer = client.post("/predict", json={"users": strange_ids, "items": strange_ids}).json()
    assert answer["sources"] == ["model"] * len(strange_ids)


def test_empty_columns_have_an_empty_answer(client: httpx.Client, loaded: Checkpoint) -> None:
    answer = client.post("/predict", json={"users": [], "items": []})
    assert answer.json() == {"ratings": [], "sources": [], "model_version": loaded.version}


@pytest.mark.parametrize(
    ("body", "members"),
    [
        ({"user": "?", "item": "1"}, {"type": "urn:ratecast:problem:unknown-user", "user": "?"}),
        ({"user": "1", "item": "?"}, {"type": "urn:ratecast:problem:unknown-item", "item": "?"}),
        (
            {"users": ["1", "2", "?"], "items": ["1", "?", "1"]},
            {"type": "urn:ratecast:problem:unknown-item", "item": "?", "position": 1},
        ),
        ({"users": ["?"], "items": ["1"]}, {"type": "urn:ratecast:problem:unknown-user", "user": "?", "position": 0}),
    ],
)
def test_strict_is_a_404_that_names_the_first_unknown_id(
    client: httpx.Client, body: dict[str, object], members: dict[str, object]
) -> None:
    answer = client.post("/predict", params={"strict": "true"}, json=body)
    problem = answer.json()
    assert answer.status_code == 404
    assert {name: value for name, value in problem.items() if name not in ("title", "detail")} == members | {
        "status": 404
    }
    assert "unknown" in problem["detail"]


NEITHER = "an id is a string of at least one character, an integer, or a number below 2⁵³"


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"user": True, "item": "1"}, "body.user"),
        ({"user": None, "item": "1"}, "body.user"),
        ({"user": {}, "item": "1"}, "body.user"),
        ({"user": ["1"], "item": "1"}, "body.user"),
        ({"user": "", "item": "1"}, "body.user"),
        ({"user": "1", "item": "i" * 257}, "body.item"),
        ({"user": "1"}, "body.item"),
        ({}, "body.user"),
        ({"user": "1", "item": "1", "rating": 5}, "body"),
        ({"user": "1", "item": "1", "users": []}, "body.items"),
        ({"users": ["1"], "items": []}, "body"),
        ({"users": "12", "items": "12"}, "body.users"),
        ({"users": ["1", ""], "items": ["1", "2"]}, "body.users.1"),
        ({"users": ["1", "2"], "items": ["1", False]}, "body.items.1"),
        ({"users": ["1", "2"], "items": ["1", "i" * 257]}, "body.items.1"),
        ({"users": ["1"] * 100_001, "items": ["1"] * 100_001}, "body"),
        ({"item": "i" * 257, "ratings": []}, "body.item"),
        ({"items": ["1", "i" * 257], "ratings": []}, "body.items.1"),
        ([], "body"),
        ("text", "body"),
        (None, "body"),
        ([[["deep"]]], "body"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[:40],
)
def test_bodies_of_the_wrong_form_are_refused_where_they_are_wrong(
    client: httpx.Client, body: object, location: str
) -> None:
    answer = client.post("/predict", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:ratecast:problem:invalid-request"
    assert problem["errors"][0]["location"] == location
    assert "i" * 257 not in answer.text


def test_a_refusal_is_short_and_repeats_nothing_of_what_was_sent(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"users": ["1"], "items": [None]} | {f"secret{k}": 0 for k in range(5_000)})
    assert answer.status_code == 422
    assert len(answer.content) < 2_000
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"user=196&item=242",
        b'{"user": "196", "item": "242"',
        b'{"user": "\xff", "item": "242"}',
        b'{"user": "\\ud800", "item": "242"}',
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"user": ' + b"9" * 5_000 + b', "item": 1}',
        b'{"user": NaN, "item": Infinity}',
    ],
    ids=["empty", "form", "cut", "not UTF-8", "lone surrogate", "UTF-16", "deep", "long number", "not finite"],
)
def test_bodies_that_are_not_json_are_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/predict", content=content, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_another_media_type_is_told_which_is_wanted(client: httpx.Client) -> None:
    answer = client.post("/predict", content=b'{"user": "196", "item": "242"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_an_id_of_50_megabytes_is_too_large_a_body(client: httpx.Client) -> None:
    body = b'{"user": "' + b"u" * 50_000_000 + b'", "item": "242"}'
    assert client.post("/predict", content=body, headers=JSON).status_code == 413


def test_ten_million_pairs_are_too_large_a_body(client: httpx.Client) -> None:
    column = b"[" + b"1," * 9_999_999 + b"1]"
    body = b'{"users": ' + column + b', "items": ' + column + b"}"
    answer = client.post("/predict", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_a_body_without_a_length_is_counted(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000_000

    assert client.post("/predict", content=chunks(), headers=JSON).status_code == 413


def test_a_chunked_body_is_read(client: httpx.Client) -> None:
    body = json.dumps({"user": "196", "item": "242"}).encode()
    assert client.post("/predict", content=iter([body[:9], body[9:]]), headers=JSON).status_code == 200
