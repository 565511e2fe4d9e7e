"""A model in a notebook gives the answers of the service."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

import ratecast
from app.engine.types import shortest
from models.errors import CheckpointNotFoundError, UnknownItemError
from ratecast.notebook import LIST_COLUMNS, Model


@pytest.fixture(scope="module")
def model(checkpoints: Path) -> Model:
    return ratecast.open_model(str(checkpoints), device="cpu")


def items(frame: pd.DataFrame) -> list[dict[str, object]]:
    """A list as the service answers it."""
    plain = frame.astype(object).where(frame.notna(), None)
    numbers = {name: shortest(frame[name].to_numpy()) for name in ("rating", "score", "low", "high") if name in frame}
    return plain.assign(**numbers).to_dict("records")


def test_pairs_get_the_ratings_that_the_service_gives(model: Model, client: httpx.Client) -> None:
    pairs = pd.DataFrame({"user": ["196", 22, "nobody", "x"], "item": [242, "a/b", "50", "y"], "note": [1, 2, 3, 4]})
    found = model.predict(pairs)
    columns = {"users": pairs["user"].map(str).tolist(), "items": pairs["item"].map(str).tolist()}
    answer = client.post("/predict", json=columns).json()
    assert list(found.columns) == ["user", "item", "note", "rating", "source"]
    assert shortest(found["rating"].to_numpy()) == answer["ratings"]
    assert found["source"].tolist() == answer["sources"]
    assert model.version == answer["model_version"]
    ends = model.predict(pairs, intervals=True)
    assert {*ends.columns} - {*found.columns} == {"low", "high"}
    assert list(pairs.columns) == ["user", "item", "note"]


@pytest.mark.parametrize(
    "options",
    [{}, {"n": 30, "rank_by": "rating"}, {"n": 5, "exclude_seen": False, "intervals": True}, {"only": [1, "2", "3"]},
     {"exclude": ["14"], "diversity": 0.3}, {"label": "new"}, {"genre": ["Drama"], "year_min": 1980}],
)  # fmt: skip
@pytest.mark.parametrize("user", [196, "nobody"])
def test_lists_are_those_of_the_service(
    model: Model, client: httpx.Client, options: dict[str, object], user: object
) -> None:
    found = model.top(user, **options)
    answer = client.get(f"/users/{user}/top", params=options).json()
    assert items(found) == answer["items"]
    assert found.attrs == {"source": answer["source"], "rank_by": answer["rank_by"]}
    assert list(found.columns)[:5] == LIST_COLUMNS


def test_similar_items_are_those_of_the_service(model: Model, client: httpx.Client) -> None:
    found = model.similar(50, n=7)
    assert items(found) == client.get("/items/50/similar?n=7").json()["items"]
    with pytest.raises(UnknownItemError):
        model.similar("nothing")


def test_somebody_with_ratings_is_folded_in_as_by_the_service(model: Model, client: httpx.Client) -> None:
    ratings = pd.DataFrame({"item": [50, "181", "no such item"], "rating": [5, 1.5, 3]})
    somebody = model.fold_in(ratings)
    given = ratings.assign(item=ratings["item"].map(str)).to_dict("records")
    listed = client.post("/recommend", json={"ratings": given, "n": 8}).json()
    assert items(somebody.top(8)) == listed["lists"][0]["items"]
    assert somebody.used == listed["ratings_used"] == 2
    answer = client.post("/predict", json={"ratings": given, "items": ["242", "nothing"]}).json()
    found = somebody.predict([242, "nothing"])
    assert shortest(found["rating"].to_numpy()) == answer["ratings"]
    assert found["source"].tolist() == answer["sources"]


def test_a_version_is_opened_by_its_name_and_a_missing_one_is_an_error(
    model: Model, checkpoints: Path, tmp_path: Path
) -> None:
    again = ratecast.open_model(str(checkpoints), model.version, device="cpu")
    assert again.manifest == model.manifest
    with pytest.raises(CheckpointNotFoundError):
        ratecast.open_model(str(tmp_path))


def test_empty_frames_are_answered(model: Model) -> None:
    none = pd.DataFrame({"user": [], "item": []})
    assert model.predict(none)["rating"].dtype == np.float32
    assert model.fold_in(pd.DataFrame({"item": [], "rating": []})).top(3).attrs["source"] == "popular"
