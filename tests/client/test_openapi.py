"""The client has all that the OpenAPI document of a running service has, of the same types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from ratecast_client import AsyncClient, Client, frames, operations

from tests.client.openapi import complaints


@pytest.fixture(scope="module")
def read(service: str) -> Callable[[], dict[str, Any]]:
    """The document, anew each time, so that a test may change it."""
    return lambda: httpx.get(f"{service}/openapi.json").raise_for_status().json()  # type: ignore[no-any-return]


Read = Callable[[], dict[str, Any]]


def test_the_client_lacks_nothing_of_the_openapi_document(read: Read) -> None:
    assert complaints(read()) == []


def test_a_new_endpoint_is_named(read: Read) -> None:
    document = read()
    document["paths"]["/items/{item}/raters"] = {"get": document["paths"]["/items/{item}"]["get"]}
    assert complaints(document) == ["GET /items/{item}/raters: no function in operations.py asks it"]


def test_an_endpoint_that_has_gone_is_named(read: Read) -> None:
    document = read()
    del document["paths"]["/models"]
    assert "GET /models: asked by `models`, and not there" in complaints(document)


def test_a_new_parameter_is_named_with_its_type(read: Read) -> None:
    document = read()
    added = {"name": "novelty", "in": "query", "required": False, "schema": {"type": "number"}}
    document["paths"]["/users/{user}/top"]["get"]["parameters"].append(added)
    document["components"]["schemas"]["RecommendRequest"]["properties"]["novelty"] = {"type": "number"}
    assert complaints(document) == [
        "GET /users/{user}/top: no function sends the query parameter `novelty: number`",
        "POST /recommend: no function sends the member `novelty: number`",
    ]


def test_a_parameter_of_another_type_or_default_is_named(read: Read) -> None:
    document = read()
    (n,) = (p for p in document["paths"]["/items/{item}/similar"]["get"]["parameters"] if p["name"] == "n")
    n["schema"] = {"type": "number", "default": 20}
    assert complaints(document) == [
        "GET /items/{item}/similar: `n` of `similar_items` is integer, in the document number",
        "GET /items/{item}/similar: `n` of `similar_items` is 10 by default, in the document 20",
    ]


def test_a_parameter_that_is_required_or_gone_is_named(read: Read) -> None:
    document = read()
    for parameter in document["paths"]["/items/{item}/similar"]["get"]["parameters"]:
        parameter["required"] = True
    document["paths"]["/recommend"]["post"]["parameters"] = []
    del document["components"]["schemas"]["RatingRequest"]["properties"]["timestamp"]
    assert complaints(document) == [
        "PUT /users/{user}/ratings/{item}: `rate` sends the member `timestamp`, which is not there",
        "POST /recommend: `recommend` sends the query parameter `model_version`, which is not there",
        "POST /recommend: `recommend` sends the query parameter `strict`, which is not there",
        "POST /recommend: `recommend_from_ratings` sends the query parameter `model_version`, which is not there",
        "GET /items/{item}/similar: `n` of `similar_items` is optional, in the document required",
    ]


def test_new_members_of_answers_are_named_with_the_line_to_add(read: Read) -> None:
    document = read()
    schemas = document["components"]["schemas"]
    schemas["Interval"] = {"type": "object", "properties": {"low": {"type": "number"}}, "required": ["low"]}
    schemas["ListedItem"]["properties"]["interval"] = {"$ref": "#/components/schemas/Interval"}
    schemas["ListedItem"]["properties"]["lower"] = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    schemas["ListedItem"]["required"].append("interval")
    assert complaints(document) == [
        "Interval: no such class in ratecast_client; it has low: number",
        "ListedItem: lacks the line `interval: Interval`",
        "ListedItem: lacks the line `lower: number or null = None`",
    ]


def test_members_of_another_type_and_those_that_have_gone_are_named(read: Read) -> None:
    document = read()
    item = document["components"]["schemas"]["Item"]
    item["properties"]["year"] = {"type": "string"}
    item["properties"]["genres"]["anyOf"][0]["items"] = {"type": "integer"}
    item["required"].remove("ratings")
    del item["properties"]["title"]
    document["components"]["schemas"]["Source"]["enum"].append("stars")
    found = complaints(document)
    assert [line for line in found if line.startswith("Item")] == [
        "Item.year is integer or null, in the document string",
        "Item.genres is [string] or null, in the document [integer] or null",
        "Item.ratings is optional in the document",
        "Item.title is not in the document",
    ]
    assert len([line for line in found if " stars" in line]) == 5


def test_an_answer_of_another_schema_is_named(read: Read) -> None:
    document = read()
    content = document["paths"]["/models"]["get"]["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"$ref": "#/components/schemas/CurrentModel"}
    assert complaints(document)[:2] == [
        "GET /models: no function gives a CurrentModel",
        "GET /models: `models` gives a PublishedModels, which is none of CurrentModel",
    ]


def methods(client: type) -> dict[str, Any]:
    return {
        name: inspect.signature(value)
        for name, value in vars(client).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert methods(Client) == methods(AsyncClient)


def test_both_clients_have_every_function_with_its_documentation() -> None:
    asking = {
        name: function
        for module in (operations, frames)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and "Call[" in str(inspect.signature(function).return_annotation)
    }
    public = {name: function.__doc__ for name, function in asking.items() if not name.startswith("_")}
    for client in (Client, AsyncClient):
        assert {name: getattr(client, name).__doc__ for name in methods(client).keys() - {"close"}} == public
    assert all(public.values())
