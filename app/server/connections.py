"""Bounds of connections, which uvicorn leaves open: how many, how large a head, how slow a client.

A connection looks at itself a few times in the time that a request may take. Nothing is done for each request but to
note that its head begins and ends.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.server.admission import Admission, Entry

MAX_HEAD = 64 << 10  # bytes; what arrives at once may be more, up to what the loop reads at once (256 kB)
LOOKS = 4  # in the time of a request
LEAST_SECONDS = 0.05  # between two of them


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """How much clients may take.

    Attributes:
        connections: most at a time.
        seconds: of a head, of a body, and for which a client may not take what it is sent.
        idle_seconds: for which a connection may stay without a request.
        linger: seconds for which one without a request is still answered when the server stops.
    """

    connections: int
    seconds: float
    idle_seconds: float
    linger: float


class Stage(Enum):
    """What a connection waits for its client to do."""

    ASK = "ask"
    HEAD = "send the rest of the head"
    BODY = "send the rest of the body"
    READ = "read the answer"


def refusal(status: HTTPStatus, detail: str) -> bytes:
    """An answer to what does not get as far as being a request: a problem document, after which the connection ends."""
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


INVALID = refusal(HTTPStatus.BAD_REQUEST, "not a request of HTTP/1.1")
TOO_SLOW = refusal(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to arrive")
HEAD_TOO_LARGE = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has at most {MAX_HEAD} bytes")
TOO_MUCH = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are waiting")
TOO_MANY = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: ConnectionBounds,
        turnstile: Admission,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._turnstile = turnstile
        self._held = b""  # what came while it was not the connection's turn
        self._requests = 0
        self._in_head = False
        self._head_bytes = 0
        self._seen: tuple[Stage, int] | None = None
        self._since = 0.0
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections:
            self._refuse(TOO_MANY)
        else:
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._held += data
            if len(self._held) > MAX_HEAD:
                self.flow.pause_reading()
            return
        if self._in_head or not self._between_requests():  # of a request that has entered already
            self._take(data)
            return
        entry = self._turnstile.ask(self, data, self.loop)
        if entry is Entry.NOW:
            self._take(data)
        elif entry is Entry.LATER:
            self._unset_keepalive_if_required()
            self._held = data
        else:
            self._refuse(TOO_MUCH)

    def enter(self) -> None:
        """Go on with what was held."""
        data, self._held = self._held, b""
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._take(data)

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._requests += 1
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says no more than INVALID does
        self._refuse(INVALID)

    def shutdown(self) -> None:
        """Without a request under way, wait a little for one: its client may have sent it already."""
        if self._between_requests():
            self.loop.call_later(self._bounds.linger, super().shutdown)
        else:
            super().shutdown()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _look(self) -> None:
        """Give the client up where it has been at one stage of one request for too long."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        now, stage = self.loop.time(), self._stage()
        seen = None if stage is None else (stage, self._requests)
        if seen != self._seen:
            self._seen, self._since = seen, now
        if stage is not None and now - self._since >= self._patience(stage):
            self._give_up(stage)
        every = min(self._bounds.seconds, self._bounds.idle_seconds) / LOOKS
        self._next_look = self.loop.call_later(max(every, LEAST_SECONDS), self._look)

    def _stage(self) -> Stage | None:
        """What the client has to do; None where it has not, or uvicorn waits for it."""
        if self._in_head:
            return Stage.HEAD
        if not self._between_requests():
            if self.cycle.more_body:
                return Stage.BODY
            return Stage.READ if self.flow.write_paused else None
        if self.transport.get_write_buffer_size():
            return Stage.READ
        return Stage.ASK if self.timeout_keep_alive_task is None else None

    def _patience(self, stage: Stage) -> float:
        return self._bounds.idle_seconds if stage is Stage.ASK else self._bounds.seconds

    def _give_up(self, stage: Stage) -> None:
        if stage is Stage.READ or (stage is Stage.BODY and self.cycle.response_started):
            self.transport.abort()
        elif stage is Stage.ASK:
            self.transport.close()
        else:
            self._refuse(TOO_SLOW)
