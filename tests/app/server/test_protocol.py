"""Answers as they arrive on a socket of a real service."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

PREDICT = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 26\r\n%s\r\n"
    b'{"user": "1", "item": "2"}'
)


@pytest.fixture
def opened(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        yield connection


def read(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_an_answer_arrives_in_one_piece(opened: socket.socket) -> None:
    opened.sendall(PREDICT % b"")
    head, body = opened.recv(65_536).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert body.startswith(b'{"rating":')


def test_pipelined_requests_are_answered_in_order(opened: socket.socket) -> None:
    opened.sendall(
        PREDICT % b""
        + b"HEAD /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        + PREDICT % b"Connection: close\r\n"
    )
    answers = read(opened).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * 4
    assert answers[1].endswith(b"\r\n\r\n")
    assert answers[2].endswith(b'{"status":"live"}')
    assert answers[0].split(b"\r\n\r\n")[1] == answers[3].split(b"\r\n\r\n")[1]


def test_a_client_that_asks_first_is_told_to_go_on(opened: socket.socket) -> None:
    head, body = (PREDICT % b"Expect: 100-continue\r\nConnection: close\r\n").split(b"\r\n\r\n")
    opened.sendall(head + b"\r\n\r\n")
    assert opened.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    opened.sendall(body)
    assert read(opened).startswith(b"HTTP/1.1 200 OK")


def test_what_is_not_http_is_answered_and_ended(opened: socket.socket) -> None:
    opened.sendall(b"\x00\x01\x02\r\n\r\n")
    assert read(opened).startswith(b"HTTP/1.1 400")
