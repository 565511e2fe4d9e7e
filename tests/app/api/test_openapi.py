"""The OpenAPI document: complete, and every example in it works when pasted."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from ratecast_client import Client

from app.api.words import OF_BODIES, WORDS
from app.main import create_app
from app.settings import Settings
from tests.support import ROOT
from tests.support.service import Start

DOCUMENT = create_app(Settings()).openapi()
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def values(examples: dict[str, Any] | None) -> list[Any]:
    return [example["value"] for example in (examples or {}).values()]


def requests() -> Iterator[tuple[str, str, Any]]:
    """Method, path and body of every combination of examples."""
    for method, path, operation in OPERATIONS:
        parameters = operation.get("parameters", ())
        in_path = [p for p in parameters if p["in"] == "path"]
        required = {p["name"]: values(p.get("examples"))[0] for p in parameters if p["in"] == "query" and p["required"]}
        query = f"?{urlencode(required)}" if required else ""
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        bodies = values(content.get("examples")) or [None]
        for body, *ids in product(bodies, *(values(parameter.get("examples")) for parameter in in_path)):
            named = zip(in_path, ids, strict=True)
            ids_in_path = {parameter["name"]: quote(id_, safe="") for parameter, id_ in named}
            yield method, path.format(**ids_in_path) + query, body


@pytest.fixture(scope="module")
def own_client(start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service with a ratings store of its own: the examples delete users that other tests ask for."""
    store = tmp_path_factory.mktemp("examples") / "ratings.sqlite"
    with start(checkpoints, store=f"sqlite:///{store}") as (client, _):
        yield client


@pytest.mark.parametrize(("method", "path", "body"), list(requests()))
def test_every_example_is_answered(own_client: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = own_client.request(method, path, json=body) if body else own_client.request(method, path)
    if "2026" in path or (path == "/models/split" and body):  # no version has the same name anywhere
        assert answer.status_code == 404
    else:
        assert answer.status_code == (409 if path == "/models/rollback" else 200)  # no version was served before


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_every_path_parameter_and_body_has_an_example(method: str, path: str, operation: dict[str, Any]) -> None:
    wanted = [p for p in operation.get("parameters", ()) if p["in"] == "path" or p["required"]]
    if "requestBody" in operation:
        wanted.append(operation["requestBody"]["content"]["application/json"])
    assert [values(part.get("examples")) for part in wanted if not part.get("examples")] == []


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_every_error_is_documented_as_a_problem(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    errors = {status: response for status, response in responses.items() if status >= "400"}
    assert {"400", "413", "422", "500"} <= errors.keys()
    assert {tuple(response["content"]) for response in errors.values()} == {("application/problem+json",)}


def test_frameworks_own_error_schema_is_gone() -> None:
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]


def test_the_document_and_its_page_are_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT
    assert client.get("/docs").status_code == 200


def test_the_document_has_the_version_of_the_package() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert DOCUMENT["info"]["version"] == pyproject["project"]["version"]


def test_every_member_and_parameter_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    members = [
        f"{body}.{name}"
        for body, schema in schemas.items()
        for name, member in schema.get("properties", {}).items()
        if not member.get("description")
    ]
    parameters = [
        f"{method} {path} {parameter['name']}"
        for method, path, operation in OPERATIONS
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ]
    assert members + parameters == []
    assert [body for body, schema in schemas.items() if not schema.get("description") and "properties" in schema] == []


def test_every_description_is_of_a_member_that_exists() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    there = {
        (body, name): member
        for body, schema in schemas.items()
        for name, member in schema.get("properties", {}).items()
    }
    assert {tuple(name.split(".")) for name in OF_BODIES} <= there.keys()
    used = {member["description"] for member in there.values()}
    assert [name for name, text in (WORDS | OF_BODIES).items() if text not in used] == []


def test_every_operation_has_the_name_of_a_method_of_the_client() -> None:
    names = [operation["operationId"] for *_, operation in OPERATIONS]
    assert [name for name in names if not hasattr(Client, name)] == []
    assert len({*names}) == len(names)
    assert all(operation["summary"] and operation["description"] for *_, operation in OPERATIONS)


def test_links_name_operations_and_members_that_exist() -> None:
    known = {operation["operationId"]: operation for *_, operation in OPERATIONS}
    for *_, operation in OPERATIONS:
        for link in operation["responses"].get("200", {}).get("links", {}).values():
            names = {parameter["name"] for parameter in known[link["operationId"]]["parameters"]}
            assert link["parameters"].keys() <= names
