"""Answers are compressed for those who ask for it, and only where that is worth it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from app.middleware import compression
from app.middleware.compression import LEAST, accepts_gzip
from app.settings import Settings
from tests.support.asgi import Caller, calling

ASKED = [("accept-encoding", "gzip, deflate, br")]
JSON = ("content-type", "application/json")


@pytest.fixture(scope="module")
def call(checkpoints: Path) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=checkpoints, store="none"))) as caller:
        yield caller


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip ;q=1.0,br", True), ("", False), ("br", False),
     ("gzip;q=0", False), ("gzip;q=0.000, br", False), ("x-gzip", False), ("identity;q=1, *;q=0", False)],
)  # fmt: skip
def test_who_accepts_gzip(accepted: str, expected: bool) -> None:
    assert accepts_gzip(accepted) == expected


@pytest.mark.parametrize("path", ["/users/1/top?n=40", "/openapi.json", "/metrics"])
def test_a_long_answer_is_compressed_for_those_who_ask(call: Caller, path: str) -> None:
    path, _, query = path.partition("?")
    plain, compressed = call("GET", path, query=query.encode()), call("GET", path, query=query.encode(), headers=ASKED)
    assert "content-encoding" not in plain.headers
    assert (compressed.headers["content-encoding"], compressed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert int(compressed.headers["content-length"]) == len(compressed.body) < len(plain.body) / 2
    if path != "/metrics":  # counts this very request
        assert gzip.decompress(compressed.body) == plain.body
    assert compressed.headers.keys() - plain.headers.keys() == {"content-encoding", "vary"}
    head = call("HEAD", path, query=query.encode(), headers=ASKED)
    assert (head.body, head.headers["content-encoding"]) == (b"", "gzip")


def test_short_answers_and_numbers_in_binary_are_not_compressed(call: Caller) -> None:
    short = call("GET", "/users/1/top", query=b"n=1", headers=ASKED)
    assert len(short.body) <= LEAST
    assert "content-encoding" not in short.headers
    body = b'{"users": [%s], "items": [%s]}' % ((b",".join([b'"1"'] * 500),) * 2)
    assert call("POST", "/predict", body, [JSON, *ASKED]).headers["content-encoding"] == "gzip"
    refused = call("POST", "/predict", b"{}", [JSON, *ASKED])
    assert (refused.status, "content-encoding" in refused.headers) == (422, False)


def test_a_large_answer_is_compressed_on_another_thread(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, compressed = [], compression._compressed

    def noting(body: bytes) -> bytes:
        threads.append(threading.current_thread())
        return compressed(body)

    monkeypatch.setattr(compression, "_compressed", noting)
    call("GET", "/users/1/top", query=b"n=40", headers=ASKED)
    call("GET", "/openapi.json", headers=ASKED)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
