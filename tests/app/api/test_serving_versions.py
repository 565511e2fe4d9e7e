"""What is served, and what only by force; going back; which of two versions is better."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from models.checkpoint.manifest import GateRecord
from models.checkpoint.writer import Draft
from models.registry.directory import publish
from tests.support.asgi import Caller, calling
from tests.support.drafts import write_held_out

NOT_MEASURED = GateRecord(verdict="not measured", reasons=("no held-out ratings",))


@pytest.fixture
def versions(tmp_path: Path, make_draft: Callable[..., Draft]) -> list[str]:
    """Served, not measured and never served, served; the last has held-out ratings that it predicts exactly."""
    return [
        publish(tmp_path, make_draft(1)).version,
        publish(tmp_path, replace(make_draft(2), gate=NOT_MEASURED), activate=False).version,
        publish(tmp_path, replace(make_draft(3), write_report=write_held_out)).version,
    ]


@pytest.fixture
def call(tmp_path: Path, versions: list[str]) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=tmp_path))) as call:
        yield call


def ask(call: Caller, method: str, target: str) -> tuple[int, Any]:
    path, _, query = target.partition("?")
    answer = call(method, path, query=query.encode())
    return answer.status, json.loads(answer.body)


def test_a_roll_back_goes_to_what_was_served(call: Caller, versions: list[str]) -> None:
    assert ask(call, "GET", "/models")[1]["previous"] == versions[0]
    assert ask(call, "POST", "/models/rollback") == (200, {"model_version": versions[0]})
    assert ask(call, "GET", "/models")[1]["previous"] is None
    status, problem = ask(call, "POST", "/models/rollback")
    assert (status, problem["type"]) == (409, "urn:ratecast:problem:not-activated")
    assert ask(call, "GET", "/models/current")[1]["version"] == versions[0]


def test_a_version_that_was_not_measured_is_served_only_by_force(call: Caller, versions: list[str]) -> None:
    listed = ask(call, "GET", "/models")[1]["models"]
    assert [model["concern"] for model in listed] == [None, "not measured", None]
    status, problem = ask(call, "POST", f"/models/{versions[1]}/activate")
    assert (status, problem["type"]) == (409, "urn:ratecast:problem:needs-force")
    assert "not measured" in problem["detail"]
    assert ask(call, "GET", "/models/current")[1]["version"] == versions[2]
    assert ask(call, "POST", f"/models/{versions[1]}/activate?force=true")[0] == 200
    assert ask(call, "POST", "/models/rollback")[1] == {"model_version": versions[2]}


def test_two_versions_are_compared_on_the_ratings_of_one(call: Caller, versions: list[str]) -> None:
    status, found = ask(call, "GET", f"/models/compare?version={versions[0]}")
    assert status == 200
    assert (found["version"], found["against"], found["verdict"]) == (versions[0], versions[2], "worse")
    assert found["rmse_against"] == 0
    assert found["difference"] == found["rmse"] > 0.1
    assert 300 < found["ratings"] <= 400
    assert ask(call, "GET", f"/models/compare?version={versions[2]}&against={versions[0]}")[1]["verdict"] == "better"


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [("version=nowhere", 404, "unknown-version"), ("version=..", 422, "invalid-request"), ("", 422, "invalid-request")],
)
def test_what_is_no_version_is_not_compared(call: Caller, query: str, status: int, kind: str) -> None:
    found, problem = ask(call, "GET", f"/models/compare?{query}")
    assert (found, problem["type"]) == (status, f"urn:ratecast:problem:{kind}")


def test_versions_without_common_ratings_are_not_compared(call: Caller, versions: list[str]) -> None:
    status, problem = ask(call, "GET", f"/models/compare?version={versions[0]}&against={versions[1]}")
    assert (status, problem["type"]) == (409, "urn:ratecast:problem:not-comparable")
