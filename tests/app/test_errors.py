from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from app.errors import KINDS
from app.main import create_app
from app.settings import Settings
from models.errors import RatecastError


def leaves(cls: type[RatecastError]) -> Iterator[type[RatecastError]]:
    if not cls.__subclasses__():
        yield cls
    for child in cls.__subclasses__():
        yield from leaves(child)


REACHABLE = [cls for cls in leaves(RatecastError) if cls.__module__.startswith(("app.", "models."))]


@pytest.mark.parametrize("cls", REACHABLE)
def test_every_error_of_the_service_has_a_status(cls: type[RatecastError]) -> None:
    assert cls in KINDS


def test_no_two_kinds_of_problem_share_a_name() -> None:
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)


def test_an_unknown_path_is_a_problem(client: httpx.Client) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.json()["type"]) == (404, "about:blank")


def test_a_wrong_method_is_a_problem_that_names_the_right_one(client: httpx.Client) -> None:
    answer = client.delete("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


def test_a_bug_is_a_problem_that_tells_nothing_about_it() -> None:
    app = create_app(Settings())

    async def broken() -> None:
        raise LookupError("a secret")

    app.add_api_route("/broken", broken)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/broken")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
