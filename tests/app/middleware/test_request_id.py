from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from tests.support.asgi import Caller, calling


@pytest.fixture(scope="module")
def call(checkpoints: Path) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=checkpoints))) as caller:
        yield caller


def test_a_harmless_request_id_comes_back(call: Caller) -> None:
    assert call("GET", "/health/live", b"", (("x-request-id", "a-B_9."),)).headers["x-request-id"] == "a-B_9."


@pytest.mark.parametrize("given", ["", "a b", "a\nb", "x" * 65, "ü", '"', "a\r\nset-cookie: x"])
def test_another_request_id_is_replaced(call: Caller, given: str) -> None:
    answers = [call("GET", "/health/live", b"", (("x-request-id", given),)).headers["x-request-id"] for _ in "12"]
    assert given not in answers
    assert len(set(answers)) == 2


def test_errors_have_a_request_id_too(call: Caller) -> None:
    for method, path in (("GET", "/nowhere"), ("POST", "/predict"), ("DELETE", "/predict")):
        assert call(method, path, b"{").headers["x-request-id"]
