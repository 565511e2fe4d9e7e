"""Every operation of the OpenAPI document refuses names that it does not have, and says which are meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from app.api.schemas.requests import ItemsRequest, PredictRequest
from app.api.unknown import members
from app.main import create_app
from app.settings import Settings

DOCUMENT = create_app(Settings()).openapi()
OPERATIONS = [
    pytest.param(method.upper(), path, operation, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def examples(part: dict[str, Any]) -> Iterator[Any]:
    yield from (found["value"] for found in part.get("examples", {}).values())


def of(operation: dict[str, Any], place: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in operation.get("parameters", ()) if found["in"] == place}


def address(path: str, operation: dict[str, Any]) -> str:
    """The path with an example of each id."""
    ids = {name: quote(next(examples(found)), safe="") for name, found in of(operation, "path").items()}
    return path.format(**ids)


def errors(answer: httpx.Response) -> list[tuple[str, str]]:
    assert (answer.status_code, answer.json()["title"]) == (422, "Invalid request")
    return [(error["location"], error["message"]) for error in answer.json()["errors"]]


def misspelt(name: str) -> str:
    return f"{name}_"


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_an_unknown_parameter_is_named(client: httpx.Client, method: str, path: str, operation: dict[str, Any]) -> None:
    known = sorted(of(operation, "query"))
    answer = client.request(method, address(path, operation), params={"ζ": "1"})
    hint = f"known are {', '.join(known)}" if known else "none is taken here"
    assert errors(answer) == [("query", f"unknown parameter 'ζ'; {hint}")]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_a_misspelt_parameter_is_corrected(
    client: httpx.Client, method: str, path: str, operation: dict[str, Any]
) -> None:
    for name in of(operation, "query"):
        answer = client.request(method, address(path, operation), params={misspelt(name): "1"})
        assert errors(answer) == [("query", f"unknown parameter {misspelt(name)!r}: did you mean {name!r}?")]


@pytest.mark.parametrize(
    ("method", "path", "operation"), [each for each in OPERATIONS if "requestBody" in each.values[2]]
)
def test_an_unknown_member_is_named(client: httpx.Client, method: str, path: str, operation: dict[str, Any]) -> None:
    (body, *_) = examples(operation["requestBody"]["content"]["application/json"])
    name = next(iter(body))
    answer = client.request(method, address(path, operation), json={**body, misspelt(name): 1, "ζ": 2})
    (first, second) = errors(answer)
    assert first == ("body", f"unknown member {misspelt(name)!r}: did you mean {name!r}?")
    assert second[1].startswith("unknown member 'ζ'; known are ")


def test_a_member_inside_a_list_is_named_with_its_place(client: httpx.Client) -> None:
    answer = client.post("/items", json={"items": [{"item": "1"}, {"item": "2", "titel": "x"}]})
    assert errors(answer) == [("body.items.1", "unknown member 'titel': did you mean 'title'?")]


def test_names_that_are_long_or_many_or_no_text_are_shortened(client: httpx.Client) -> None:
    found = errors(client.get("/models", params={f"{at}{'n' * 9_000}": "" for at in range(5)}))
    assert found[0] == ("query", f"unknown parameter '0{'n' * 39}…'; none is taken here")
    assert len(errors(client.get("/models", params=dict.fromkeys(map(str, range(99)), "")))) == 10
    content = '{"user": "1", "item": "2", "\\u0000\\n": 1}'
    found = errors(client.post("/predict", content=content, headers={"content-type": "application/json"}))
    assert found == [("body", r"unknown member '\x00\n'; known are item, items, ratings, user, users")]


def test_the_members_of_a_type_are_found_through_unions_and_lists() -> None:
    assert members(PredictRequest, ()) == {"user", "item", "users", "items", "ratings"}
    assert members(PredictRequest, ("ratings", 3)) == {"item", "rating"}
    assert members(ItemsRequest, ("items", 0)) >= {"item", "title", "labels"}
    assert members(ItemsRequest, ("items", 0, "title")) == set()
