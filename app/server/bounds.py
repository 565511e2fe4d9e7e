"""The limits of connections, and the answers to clients that exceed them. It knows no server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD = 64 << 10  # bytes


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """The limits of connections.

    Attributes:
        connections: most at a time.
        seconds: in which a client must have sent a head, or a body, or have read what it was sent.
        idle_seconds: in which a client must send a request.
        linger: seconds for which a connection without a request is kept when the server stops.
    """

    connections: int
    seconds: float
    idle_seconds: float
    linger: float


def refusal(status: HTTPStatus, detail: str) -> bytes:
    """The answer, a problem document, to an invalid or incomplete request. The connection ends after it."""
    body = json.dumps({"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}).encode()
    head = [
        f"HTTP/1.1 {status} {status.phrase}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "connection: close",
    ]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        head.append("retry-after: 1")
    return "\r\n".join([*head, "", ""]).encode() + body


INVALID = refusal(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP/1.1")
TOO_SLOW = refusal(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to arrive")
HEAD_TOO_LARGE = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has at most {MAX_HEAD} bytes")
TOO_MUCH = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are waiting")
TOO_MANY = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open")
