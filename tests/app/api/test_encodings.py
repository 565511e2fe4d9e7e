"""`POST /predict` in other encodings than JSON, through a real service."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from app.engine.types import shortest
from models.checkpoint.reader import Checkpoint

ARROW, MSGPACK = "application/vnd.apache.arrow.stream", "application/msgpack"


def stream(users: list[str], items: list[str]) -> bytes:
    table = pa.table({"user": pa.array(users, pa.string()), "item": pa.array(items, pa.string())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def post(client: httpx.Client, media_type: str, content: bytes, **parameters: Any) -> httpx.Response:
    return client.post("/predict", content=content, headers={"content-type": media_type}, params=parameters)


@pytest.mark.parametrize("pairs", [0, 1, 5, 5_000])
def test_a_pair_has_the_same_bits_in_every_encoding(client: httpx.Client, loaded: Checkpoint, pairs: int) -> None:
    """5,000 pairs go to the engine's thread, fewer do not."""
    rng = np.random.default_rng(0)
    users, items = (rng.integers(0, 500, pairs).astype(str).tolist() for _ in "12")
    from_json = client.post("/predict", json={"users": users, "items": items}).json()
    packed = post(client, MSGPACK, msgspec.msgpack.encode({"users": users, "items": items}))
    arrow = post(client, ARROW, stream(users, items))
    assert (packed.headers["content-type"], arrow.headers["content-type"]) == (MSGPACK, ARROW)
    assert msgspec.msgpack.decode(packed.content) == from_json
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert shortest(table["rating"].to_numpy()) == from_json["ratings"]
    assert table["source"].to_pylist() == from_json["sources"]
    assert table.schema.metadata[b"model_version"].decode() == from_json["model_version"] == loaded.version
    for user, item, rating in list(zip(users, items, from_json["ratings"], strict=True))[:20]:
        assert client.post("/predict", json={"user": user, "item": item}).json()["rating"] == rating


def test_one_pair_can_be_sent_as_msgpack(client: httpx.Client) -> None:
    pair = {"user": "1", "item": 2}
    answer = post(client, MSGPACK, msgspec.msgpack.encode(pair))
    assert msgspec.msgpack.decode(answer.content) == client.post("/predict", json=pair).json()


@pytest.mark.parametrize("encoding", [ARROW, MSGPACK])
def test_strict_is_a_404_that_names_the_first_unknown_id(client: httpx.Client, encoding: str) -> None:
    columns = {"users": ["1", "1", "?"], "items": ["1", "?", "1"]}
    content = stream(*columns.values()) if encoding == ARROW else msgspec.msgpack.encode(columns)
    answer = post(client, encoding, content, strict="true")
    assert (answer.status_code, answer.json()["item"], answer.json()["position"]) == (404, "?", 1)


@pytest.mark.parametrize("encoding", [ARROW, MSGPACK])
def test_a_parameter_of_the_wrong_form_is_all_that_is_wrong(client: httpx.Client, encoding: str) -> None:
    content = stream(["1"], ["1"]) if encoding == ARROW else msgspec.msgpack.encode({"user": "1", "item": "1"})
    answer = post(client, encoding, content, strict="maybe")
    assert answer.status_code == 422
    assert [error["location"] for error in answer.json()["errors"]] == ["query.strict"]


@pytest.mark.parametrize(
    ("encoding", "content", "message"),
    [
        (ARROW, b"", "cut short"),
        (ARROW, stream(["1"], ["2"])[:-20], "cut short"),
        (ARROW, stream(["1"], [""]), "at least one character"),
        (ARROW, stream(["ü" * 257], ["1"]), "at most 256 characters"),
        (ARROW, stream(["1"] * 100_001, ["1"] * 100_001), "at most 100000 pairs"),
        (MSGPACK, b"", "not a valid msgpack body"),
        (MSGPACK, msgspec.msgpack.encode({"user": "", "item": "1"}), "at least one character"),
        (MSGPACK, msgspec.msgpack.encode({"user": "1", "item": "i" * 257}), "at most 256 characters"),
        (MSGPACK, msgspec.msgpack.encode({"users": ["1"], "items": []}), "must have the same length"),
        (MSGPACK, msgspec.msgpack.encode({"users": ["1"] * 100_001, "items": ["1"] * 100_001}), "at most 100000 pairs"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bad_bodies_are_invalid_requests(client: httpx.Client, encoding: str, content: bytes, message: str) -> None:
    answer = post(client, encoding, content)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:ratecast:problem:invalid-request")
    assert message in answer.json()["detail"]


def test_ids_that_are_long_in_bytes_alone_are_accepted(client: httpx.Client) -> None:
    assert post(client, ARROW, stream(["ü" * 256], ["1"])).status_code == 200
