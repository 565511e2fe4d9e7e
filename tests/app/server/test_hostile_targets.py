"""Request targets that no client library would send, byte for byte to a real service: answered or refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.ids import clean

PIECES = [
    b"1", b"a", b"/", b"//", b"..", b".", b";", b"&", b"=", b"+", b"?", b"#", b"%", b"%%", b"%2", b"%zz", b"%2F",
    b"%2f", b"%25", b"%00", b"%0A", b"%0d%0a", b"%20", b"%7F", b"%C3%BC", b"%c3", b"%FF", b"%C0%AF", b"%ED%A0%80",
    b"%F4%90%80%80", b"%u0041", b"\\", b'"', b"<", b"|", b"\x01", b"\x7f", b"\xc3\xbc", b"\xff", b"\t", b"@", b":",
    b"x" * 300, b"top", b"users", b"n", b"n=3", b"n=%33", b"n=\xff", b"strict", b"strict=true", b"exclude=",
    b"only=%FF", b"rank_by=rating", b"rank_by=%00",
]  # fmt: skip
pieces = (
    st.lists(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=3), max_size=6)
    .map(b"".join)
    .map(lambda target: target.translate(None, b" \r\n"))
)  # blanks and line ends would end it


class Connection:
    """Sends one request after the other, and connects anew where the service has closed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=30)
        self._stream = self._socket.makefile("rb")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def get(self, target: bytes) -> tuple[int, bytes]:
        """Status and body."""
        self._socket.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        status = int(self._stream.readline().split()[1])
        headers = dict(line.lower().rstrip().split(b": ", 1) for line in iter(self._stream.readline, b"\r\n"))
        body = self._stream.read(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            self.close()
            self._connect()
        return status, body


@pytest.fixture(scope="module")
def connection(client: httpx.Client) -> Iterator[Connection]:
    connection = Connection(client.base_url.host, client.base_url.port or 80)
    yield connection
    connection.close()


@given(user=pieces, query=pieces)
@example(user=b"%ED%A0%80", query=b"")
@example(user=b"\xff", query=b"")
@example(user=b"1", query=b"n=\xff")
@settings(max_examples=500)
def test_any_target_of_a_list_is_answered_or_refused(connection: Connection, user: bytes, query: bytes) -> None:
    status, body = connection.get(b"/users/" + user + b"/top?" + query)
    answer = json.loads(body)
    assert status in (200, 400, 404, 405, 422)  # a query in the id may leave the path of an erasure
    if status != 200:
        assert answer["status"] == status
    elif b"?" not in user and b"#" not in user:
        assert answer["user"] == clean(unquote(user.decode()))


@given(target=pieces)
@example(target=b"%0A")
@example(target=b"console/app.js%0A")
@settings(max_examples=300)
def test_any_target_at_all_is_answered_or_refused(connection: Connection, target: bytes) -> None:
    status, body = connection.get(b"/" + target)
    assert status in (200, 400, 404, 405, 422)
    assert body
