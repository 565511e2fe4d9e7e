"""A clock that jumps, years forward and back, changes no answer: what has to last some time counts it otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.registry.directory import publish
from tests.support.asgi import Caller, calling
from tests.support.drafts import random_draft

YEARS = 20 * 365 * 86_400
KEY = ("authorization", "Bearer a-key-of-a-client")
JSON = ("content-type", "application/json")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    publish(tmp_path, random_draft(seed=0))
    return tmp_path


@pytest.fixture
def jumps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the clock so many seconds ahead, or back."""
    now = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: now() + seconds)


def ask(call: Caller, method: str, path: str, body: object = None, *headers: tuple[str, str]) -> Any:
    content = b"" if body is None else json.dumps(body).encode()
    answer = call(method, path, content, (JSON, *headers) if content else headers)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


@pytest.mark.slow
def test_ratings_keys_live_errors_and_versions_go_on(directory: Path, jumps: Any) -> None:
    with calling(create_app(Settings(checkpoints=directory))) as call:
        for step, seconds in enumerate((YEARS, -YEARS, 0)):
            jumps(seconds)
            user, bulk = f"u{step}", {"users": ["bulk"], "items": ["5"], "ratings": [1 + step % 5]}
            ask(call, "PUT", f"/users/{user}/ratings/7", {"rating": 5})
            (stored,) = ask(call, "GET", f"/users/{user}/ratings")["ratings"]
            assert abs(stored["timestamp"] - time.time()) < 60
            assert ask(call, "POST", "/predict", {"user": user, "item": "3"})["source"] == "fold_in"
            for rating in (bulk["ratings"], bulk["ratings"]):
                ask(call, "POST", "/ratings", bulk | {"ratings": rating}, ("idempotency-key", f"key-{step}"))
            while ask(call, "GET", "/quality")["waiting"]:
                call.wait(0.05)
            assert ask(call, "GET", "/quality")["figures"] != []
            newer = publish(directory, random_draft(seed=0)).version
            while ask(call, "GET", "/models/current")["version"] != newer:
                call.wait(0.05)
        ask(call, "PUT", "/users/bulk/ratings/5", {"rating": 2})
        ask(call, "POST", "/ratings", bulk, ("idempotency-key", f"key-{step}"))
        assert ask(call, "GET", "/users/bulk/ratings")["ratings"][0]["rating"] == 2  # not carried out again


def test_a_rate_limit_neither_ends_nor_lasts(directory: Path, jumps: Any) -> None:
    settings = Settings(checkpoints=directory, api_keys=SecretStr("a-key-of-a-client"), rate_limit=0.5, store="none")
    with calling(create_app(settings)) as call:
        assert call("GET", "/models/current", b"", [KEY]).status == 200
        for seconds in (YEARS, -YEARS):
            jumps(seconds)
            refused = call("GET", "/models/current", b"", [KEY])
            assert (refused.status, int(refused.headers["retry-after"])) in ((429, 1), (429, 2))
        call.wait(2.1)
        assert call("GET", "/models/current", b"", [KEY]).status == 200
