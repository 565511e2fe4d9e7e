"""A server on a socket that answers as a test says, byte for byte, also wrongly, late or not at all."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Behaviour = Callable[[socket.socket], None]
SECONDS = 30.0  # a bug in a test ends after this


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class FaultyServer:
    """Serves one connection after the other, each with the next behaviour, the last again and again."""

    url: str
    received: list[Received] = field(default_factory=list)
    connection: socket.socket | None = None


@contextmanager
def faulty_server(behaviours: Sequence[Behaviour]) -> Iterator[FaultyServer]:
    """A server on a free port until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FaultyServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=_serve, args=(listener, behaviours, server))
        thread.start()
        try:
            yield server
        finally:
            _wake(listener)
            if server.connection is not None:  # of a client that keeps it open
                _wake(server.connection)
            thread.join(SECONDS)
            assert not thread.is_alive()


def _wake(waiting: socket.socket) -> None:
    """Ends accept() and recv(), if it is still open."""
    with suppress(OSError):
        waiting.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, behaviours: Sequence[Behaviour], server: FaultyServer) -> None:
    remaining = list(behaviours)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.settimeout(SECONDS)
        server.connection = connection
        with connection, suppress(ConnectionError):
            request = _read(connection)
            if request is not None:
                server.received.append(request)
                behave = remaining.pop(0) if len(remaining) > 1 else remaining[0]
                behave(connection)


def _read(connection: socket.socket) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    method, target, _ = first.split(" ")
    return Received(method, target, headers, body)


def answer(status: int, document: Any, **headers: str) -> Behaviour:
    """A whole answer, as JSON; `Retry_After="1"` is the header Retry-After."""
    body = json.dumps(document).encode()
    kind = "application/json" if status < 400 else "application/problem+json"
    given = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return raw(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body)


def problem(status: int, **headers: str) -> Behaviour:
    """An error as the service tells it."""
    kind = f"urn:ratecast:problem:status-{status}"
    return answer(status, {"type": kind, "title": "A title", "status": status, "detail": "a detail"}, **headers)


def raw(content: bytes) -> Behaviour:
    """These bytes, and the end of the connection."""
    return lambda connection: connection.sendall(content)


def hang_up(connection: socket.socket) -> None:
    """The end of the connection, without a byte."""


def stay_silent(connection: socket.socket) -> None:
    """Nothing until the client goes."""
    connection.recv(1)


def drip(content: bytes, body: bytes) -> Behaviour:
    """The content at once, then `body` again and again, slowly, until the client goes."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(content)
        connection.settimeout(0.02)
        while True:
            connection.sendall(body)
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return

    return behave
