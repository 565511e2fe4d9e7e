"""What the service writes for the messages of an answer."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from app.server.protocol import Cycle

DATE = [(b"date", b"today")]


class Transport:
    """Keeps what is written, one piece a write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def sent(*messages: dict[str, Any], method: str = "GET", keep_alive: bool = True) -> Transport:
    """The transport after these messages."""
    transport, log = Transport(), logging.getLogger(__name__)

    async def send() -> None:
        cycle = Cycle(
            scope={"type": "http", "method": method},  # type: ignore[typeddict-item]
            transport=transport,  # type: ignore[arg-type]
            flow=SimpleNamespace(write_paused=False),  # type: ignore[arg-type]
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=DATE,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=lambda: None,
        )
        for message in messages:
            await cycle.send(message)

    asyncio.run(send())
    return transport


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(text: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": more}


def test_head_and_body_are_one_write() -> None:
    assert sent(start((b"Content-Length", b"2")), body(b"ok")).written == [
        b"HTTP/1.1 200 OK\r\ndate: today\r\nContent-Length: 2\r\n\r\nok"
    ]


def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n"
    assert sent(start(), body(b"some", more=True), body(b"more")).written == [
        head + b"4\r\nsome\r\n",
        b"4\r\nmore\r\n0\r\n\r\n",
    ]


def test_an_answer_to_head_has_no_body() -> None:
    written = sent(start((b"content-length", b"2")), body(b"ok"), method="HEAD").written
    assert written == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\n"]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_has_no_framing(status: int) -> None:
    (written,) = sent(start(status=status), body()).written
    assert written.endswith(b"\r\ndate: today\r\n\r\n")


def test_a_connection_that_is_not_kept_is_said_to_be_closed_and_closed() -> None:
    for transport in (
        sent(start((b"content-length", b"0")), body(), keep_alive=False),
        sent(start((b"content-length", b"0"), (b"connection", b"close")), body()),
    ):
        assert transport.written[0].count(b"\r\nconnection: close\r\n") == 1
        assert transport.closed
    assert not sent(start((b"content-length", b"0")), body()).closed


@pytest.mark.parametrize(
    "header", [(b"a", b"b\r\nc: d"), (b"a\n", b"b"), (b"a", b"\0"), (b"a\rb", b"c"), (b"a", b"\n")]
)
def test_a_header_that_would_be_two_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(RuntimeError, match="a character that headers must not have"):
        sent(start(header), body())


@pytest.mark.parametrize("text", [b"o", b"more"])
def test_a_body_of_another_length_than_was_said_is_refused(text: bytes) -> None:
    with pytest.raises(RuntimeError, match="is not as long as its Content-Length says"):
        sent(start((b"content-length", b"2")), body(text))


@pytest.mark.parametrize("messages", [[body()], [start(), start()], [start(), body(), body()]])
def test_messages_in_another_order_are_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RuntimeError, match="an ASGI message out of order"):
        sent(*messages)
