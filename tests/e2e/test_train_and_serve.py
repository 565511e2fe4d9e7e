"""From ratings to an answer over a socket: the real command line, a real checkpoint, a real server process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from models.checkpoint.reader import Checkpoint
from models.orderings import by_rating
from models.registry.directory import load
from models.search import top_items
from tests.support.service import Start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What `fit` printed after publishing the textbook model of ml-100k."""
    out = tmp_path_factory.mktemp("checkpoints")
    options = ["--data", "ml-100k", "--split", "last-out", "--preset", "textbook", "--out", str(out), "--json"]
    command = [sys.executable, "-m", "training", "fit", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def checkpoint(figures: dict[str, object]) -> Checkpoint:
    path = Path(str(figures["checkpoint"]))
    return load(path.parent)


@pytest.fixture(scope="module")
def client(start: Start, figures: dict[str, object]) -> Iterator[httpx.Client]:
    """A client of `python -m app` on the published checkpoint, once that says it is ready."""
    with start(Path(str(figures["checkpoint"])).parent) as (client, _):
        yield client


def test_the_textbook_model_has_its_published_error(figures: dict[str, object]) -> None:
    assert 1.01 < float(str(figures["rmse"])) < 1.06
    assert 0.63 < float(str(figures["train_loss"])) < 0.72


def test_served_predictions_equal_the_offline_model(client: httpx.Client, checkpoint: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    users_N = rng.integers(len(checkpoint.users), size=10_000)
    items_N = rng.integers(len(checkpoint.items), size=10_000)
    body = {"users": checkpoint.users.lookup(users_N), "items": checkpoint.items.lookup(items_N)}
    answer = client.post("/predict", json=body).raise_for_status().json()
    shape = checkpoint.manifest.model
    offline_N = checkpoint.model(torch.from_numpy(users_N), torch.from_numpy(items_N))
    expected_N = offline_N.clamp(shape.rating_min, shape.rating_max).numpy()
    assert answer["model_version"] == checkpoint.version
    assert set(answer["sources"]) == {"model"}
    assert float(np.abs(np.array(answer["ratings"]) - expected_N).max()) <= 1e-6


def test_served_lists_equal_brute_force(client: httpx.Client, checkpoint: Checkpoint) -> None:
    for user in range(0, len(checkpoint.users), 100):
        answer = client.get(f"/users/{checkpoint.users[user]}/top", params={"n": 20}).raise_for_status().json()
        users_B = torch.tensor([user])
        excluded = checkpoint.seen.rows(users_B)
        best_N = top_items(by_rating(checkpoint.model), users_B, 20, excluded=excluded)[0].numpy()
        assert [entry["item"] for entry in answer["items"]] == checkpoint.items.lookup(best_N)


def test_lists_carry_titles_and_no_seen_item(client: httpx.Client, checkpoint: Checkpoint) -> None:
    answer = client.get("/users/196/top").raise_for_status().json()
    seen = set(checkpoint.items.lookup(checkpoint.seen.of(checkpoint.users.row("196")).long().numpy()))
    assert len(answer["items"]) == 10
    assert all(entry["title"] for entry in answer["items"])
    assert not seen & {entry["item"] for entry in answer["items"]}
