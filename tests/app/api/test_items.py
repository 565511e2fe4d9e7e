from __future__ import annotations

from urllib.parse import quote

import httpx
import numpy as np

from app.engine.types import shortest
from models.checkpoint.reader import Checkpoint


def test_an_item_is_described_by_the_catalogue_and_its_ratings(client: httpx.Client, loaded: Checkpoint) -> None:
    counts = loaded.seen.counts(len(loaded.items))
    always = {"hidden": False, "available_from": None, "available_until": None, "known_to_model": True}
    for row, record in enumerate(loaded.catalogue.to_pylist()[:40]):
        record["item"] = record.pop("id")
        (record["mean_rating"],) = shortest(np.array([record["mean_rating"]], float))
        served = client.get(f"/items/{record['item']}").json()
        assert served == record | always | {"ratings": int(counts[row]), "model_version": loaded.version}


def test_labels_are_a_list_or_null(client: httpx.Client) -> None:
    found = [client.get(f"/items/{item}").json()["labels"] for item in (1, 2, 3, 4)]
    assert found == [[], ["new"], ["new", "on sale"], None]
    assert client.get("/items?query=Title 3&n=1").json()["items"][0]["labels"] == ["new", "on sale"]


def test_any_character_may_stand_in_an_item_id(client: httpx.Client, strange_ids: list[str]) -> None:
    for item in strange_ids:
        answer = client.get(f"/items/{quote(item, safe='').replace('.', '%2E')}")
        assert (answer.status_code, answer.json()["item"]) == (200, item)


def test_an_unknown_item_is_a_404_that_names_it(client: httpx.Client) -> None:
    answer = client.get("/items/nothing")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:ratecast:problem:unknown-item"
    assert answer.json()["item"] == "nothing"


def test_an_id_that_is_too_long_is_refused(client: httpx.Client) -> None:
    answer = client.get(f"/items/{'i' * 257}")
    assert (answer.status_code, answer.json()["errors"][0]["location"]) == (422, "path.item")
