"""The largest and the most awkward requests of every route and encoding take neither memory nor right answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from models.registry.directory import publish
from tests.support.budget import AWKWARD, Bystander, Case, ask, cases
from tests.support.drafts import random_draft
from tests.support.service import Start
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MEMORY = 300 << 20
KEPT = 300 << 20  # more than in the beginning, when all is over: a hundred thousand users and as many items were stored
REST_SECONDS = 60.0  # for memory to be given back
LONG = {"POST /ratings", "POST /items"}  # a hundred thousand rows each: seconds


@pytest.fixture
def running(start: Start, tmp_path: Path) -> Iterator[tuple[httpx.Client, psutil.Process, list[Case]]]:
    version = publish(tmp_path, random_draft(seed=0)).version
    publish(tmp_path, random_draft(seed=0))
    with start(tmp_path) as (client, process):
        yield client, psutil.Process(process.pid), [*cases(client.get("/openapi.json").json(), version)]


def test_no_request_takes_more_than_its_budget(
    running: tuple[httpx.Client, psutil.Process, list[Case]],
) -> None:
    """One at a time, and of each route and encoding, and each kind of awkward body, one 32 times at once."""
    client, process, given = running
    url, began, first = str(client.base_url), process.memory_info().rss, set()
    with closing(Bystander(url)) as bystander:
        for case in given:
            kind = case.name if case.name in AWKWARD else (case.operation, case.name.partition(":")[0])
            for times in (1,) if kind in first else (1, 2 if case.operation in LONG else 32):
                cost = ask(url, case, times, process, bystander)
                told = f"{times} × {case.operation} {case.name}: {cost.statuses}, {cost.grown >> 20} MB"
                assert cost.wrong == [], told
                assert set(cost.statuses) <= case.statuses, told
                assert cost.grown <= MEMORY, told
            first.add(kind)
    wait_until(lambda: process.memory_info().rss - began <= KEPT, seconds=REST_SECONDS)


def test_a_route_with_a_body_without_a_recipe_is_not_left_out() -> None:
    content = {"content": {"application/json": {}}}
    document = {"paths": {"/new": {"post": {"responses": {"200": {}}, "requestBody": content}}}}
    with pytest.raises(LookupError, match="no recipe for the largest bodies of POST /new in application/json"):
        list(cases(document, "version"))
    document = {"paths": {"/new": {"get": {"responses": {"200": {}}, "parameters": [{"name": "x", "in": "query"}]}}}}
    document["paths"]["/new"]["get"]["parameters"][0]["schema"] = {"type": "integer"}
    with pytest.raises(LookupError, match="no recipe for the largest value of the parameter x"):
        list(cases(document, "version"))
