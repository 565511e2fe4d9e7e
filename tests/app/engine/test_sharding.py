"""A service whose items lie on several devices answers to the byte as one with a single device does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from app.engine import loading, serving_model
from models.checkpoint.writer import Draft
from models.devices import CPU, DevicePlacement
from models.errors import GoldenPairsError
from models.mf import MatrixFactorization
from models.registry.directory import current_version, publish
from models.scoring import BilinearForm
from models.sharding import Shard, Sharded, spread

Start = Callable[..., AbstractContextManager[tuple[httpx.Client, object]]]
DEVICES = "cpu,cpu,cpu"
USERS, INLINE = (
    ["1", "17", "a/b", "fresh", "nobody"],
    {"ratings": [{"item": "3", "rating": 5}, {"item": "390", "rating": 1}]},
)


def with_variances(draft: Draft) -> Draft:
    rng = np.random.default_rng(0)
    rows = {"noise_variance": (), "user_variance": (draft.model.users + 1,), "item_variance": (draft.model.items + 1,)}
    variances = {name: torch.tensor(rng.random(shape), dtype=torch.float32) for name, shape in rows.items()}
    return replace(draft, model=MatrixFactorization(**draft.model.tensors(), **variances))


def answers(client: httpx.Client) -> Iterator[tuple[str, httpx.Response]]:
    """Every kind of answer for which items are scored."""
    items = [str(item) for item in range(1, 390)] + ["nothing", "%2F"]
    for user in USERS:
        path = "/users/" + user.replace("/", "%2F")
        for query in (
            "",
            "?n=400&rank_by=rating",
            "?n=30&rank_by=lower_bound&exclude_seen=false",
            "?n=400&genre=Film-Noir&exclude=1&exclude=200&exclude=nothing",
            "?n=5&only=7&only=390&only=8&only=207&only=nothing&rank_by=rating",
        ):
            yield path + query, client.get(path + "/top" + query)
        for item in ("1", "300", "nothing"):
            yield f"{user} {item}", client.post("/predict", json={"user": user, "item": item})
        yield user, client.post("/predict", json={"users": [user] * len(items), "items": items})
        yield f"{path}/because", client.get(f"{path}/because/300")
    for body in ({"users": USERS * 20, "n": 20}, {"users": USERS, "n": 7, "genre": ["Drama"]}, {**INLINE, "n": 20}):
        yield str(body), client.post("/recommend", json=body)
    yield "inline", client.post("/predict", json={"items": items, **INLINE})
    for item in ("1", "133", "134", "380"):
        yield f"similar to {item}", client.get(f"/items/{item}/similar?n=30")


@pytest.mark.slow
def test_answers_do_not_depend_on_the_number_of_devices(
    tmp_path: Path, make_draft: Callable[..., Draft], start: Start
) -> None:
    publish(tmp_path, with_variances(make_draft(0)))
    with start(tmp_path, "--device", "cpu") as (client, _):
        for item, rating in (("2", 5), ("380", 1), ("200", 4)):
            assert client.put(f"/users/fresh/ratings/{item}", json={"rating": rating}).status_code == 200
        expected = dict(answers(client))
    with start(tmp_path, "--device", DEVICES) as (client, _):
        assert client.get("/models/current").json()["device"] == DEVICES
        found = dict(answers(client))
    assert [question for question, answer in expected.items() if answer.status_code != 200] == ["/users/nobody/because"]
    assert [question for question in expected if found[question].content != expected[question].content] == []


def test_golden_pairs_tell_when_a_device_holds_the_items_of_another(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confused(named: Mapping[str, BilinearForm], devices: Sequence[torch.device]) -> dict[str, Sharded]:
        right = spread(named, devices)
        return {
            name: replace(
                sharded,
                shards=tuple(
                    Shard(one.begin, other.ordering)
                    for one, other in zip(sharded.shards, sharded.shards[::-1], strict=True)
                ),
            )
            for name, sharded in right.items()
        }

    version, place = current_version(checkpoints), DevicePlacement(CPU, (CPU, CPU))
    assert loading.load(checkpoints, version, place).version == version
    monkeypatch.setattr(serving_model, "spread", confused)
    with pytest.raises(GoldenPairsError):
        loading.load(checkpoints, version, place)
