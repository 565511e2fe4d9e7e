"""uvicorn's HTTP/1.1 with limits, a few requests a turn, and the head and first part of an answer in one write.

Only this file and `app/server/workers.py` use parts of uvicorn that are not documented.
`tests/app/server/test_uvicorn.py` names them: those of `HttpToolsProtocol` and its cycles, of the parent of several
workers, and the import of an application by its name.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app.server.admission import Admission, Entry
from app.server.bounds import HEAD_TOO_LARGE, INVALID, MAX_HEAD, TOO_MANY, TOO_MUCH, TOO_SLOW, ConnectionBounds

PARTS_A_TURN = 64  # of pipelined requests
LOOKS, LEAST_SECONDS = 4, 0.05  # in the time of a request, and between two of them
END = b"\r\n\r\n"  # of a head, of trailers, of a chunked body
LENGTH, CLOSE = b"\ncontent-length: ", b"\nconnection: close\r"
WITHOUT_BODY = frozenset((204, 304))  # statuses
NO_TRAILERS = cast("list[tuple[bytes, bytes]]", deque(maxlen=0))  # keeps none of those that are put into it
FRAMING = 16  # bytes a byte of the body, beside those of a head: chunks of one byte have 5


class Stage(Enum):
    """The action of its client that a connection waits for."""

    ASK = "ask"
    HEAD = "send the rest of the head"
    BODY = "send the rest of the body"
    READ = "read the answer"


class Cycle(RequestResponseCycle):
    """uvicorn's request and its answer, with a cheaper way to send.

    uvicorn writes head and body one after the other, and uvloop hands each to the system at once: a second system call,
    which takes 6 µs. It looks at each header by itself. Both together are a fifth of what a prediction takes in all.
    Here the head waits for the first part of the body, and the headers are looked at together.
    """

    _head = b""  # until the first part of the body

    async def send(self, message: Any) -> None:
        """Send a part of the answer. Raises RuntimeError for a message out of order."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._begin(message["status"], [*self.default_headers, *message.get("headers", ())])
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._continue(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"an ASGI message out of order: {kind}")

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.response_started, self.waiting_for_100_continue = True, False
        fields = b"".join([b"\n%b: %b\r" % header for header in headers])
        if not fields.count(b"\n") == fields.count(b"\r") == len(headers) or b"\0" in fields:
            raise RuntimeError("a header of the answer has a character that headers must not have")
        names = fields.lower()
        if (at := names.find(LENGTH)) >= 0:
            length = names[at + len(LENGTH) : names.index(b"\r", at)]
            self.expected_content_length, self.chunked_encoding = int(length), False
        elif b"\ntransfer-encoding:" in names:
            self.chunked_encoding = True
        elif self.scope["method"] != "HEAD" and status not in WITHOUT_BODY:
            self.chunked_encoding = True
            fields += b"\ntransfer-encoding: chunked\r"
        if CLOSE in names:
            self.keep_alive = False
        elif not self.keep_alive:
            fields += CLOSE
        self._head = b"%b%b\n\r\n" % (STATUS_LINE[status][:-1], fields)

    def _continue(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the body of the answer is not as long as its Content-Length says")
        if not self.transport.is_closing():  # else the connection was just closed, and uvloop would raise
            self.transport.write(self._head + body)
        self._head = b""
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. It checks a few times within the time limit how long its client takes."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: ConnectionBounds,
        admission: Admission,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds, self._admission = bounds, admission
        self._held = b""  # received before the connection's turn
        self._requests, self._in_head = 0, False
        self._refusal = b""  # that comes after the answer under way
        self._upgrading = False  # the head that was read asks for another protocol
        self._body = self._body_of_part = 0  # bytes of the body so far, and in the part that was read last
        self._framing = 0  # bytes of the request so far that are none of its body
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
        if self._held or self._is_answering():
            self._hold(data)
        elif self._in_head or not self._between_requests():  # the rest of an admitted request
            self._take(data)
        else:
            self._ask(data)

    def _ask(self, data: bytes) -> None:
        """Go on with a request at once, or when it is the connection's turn."""
        entry = self._admission.ask(self._enter, data, self.loop)
        if entry is Entry.NOW:
            self._take(data)
        elif entry is Entry.LATER:
            self._hold(data)
        else:
            self._refuse(TOO_MUCH)

    def _hold(self, data: bytes) -> None:
        """Keep what cannot be read yet; where it is much, the client has to wait."""
        self._held += data
        if len(self._held) > MAX_HEAD:
            self.flow.pause_reading()

    def _enter(self) -> None:
        """Continue with the bytes that were received before the connection's turn."""
        data, self._held = self._held, b""
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Read a request, but not the one behind it: that is read when this one has been answered."""
        for _ in range(PARTS_A_TURN):
            end = data.find(END)
            if end > MAX_HEAD and (self._in_head or self.cycle is None or not self.cycle.more_body):
                self._refuse(HEAD_TOO_LARGE)
                return
            if end >= 0 and data.find(END, end + 1) < 0:
                end = -1  # there is no second head, so all of it is read at once
            part, data = (data[: end + len(END)], data[end + len(END) :]) if end >= 0 else (data, b"")
            data = self._read(part) + data
            if not data or self.transport.is_closing():
                return
            if self._is_answering():
                self._hold(data)
                return
        self._hold(data)
        self.loop.call_soon(self._enter)

    def _read(self, part: bytes) -> bytes:
        """Have a part parsed; gives what is left of it. Refuses what is no request, and one with too much around it."""
        self._body_of_part = 0
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade() + part[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._refuse(INVALID)
            return b""
        self._framing += len(part) - self._body_of_part
        if self._framing > MAX_HEAD + FRAMING * self._body and (self._in_head or self.cycle.more_body):
            self._refuse(HEAD_TOO_LARGE)
        return b""

    def _without_upgrade(self) -> bytes:
        """The head that was read last, without the wish for another protocol, to be read by a new parser.

        The parser takes what follows such a head for the other protocol, which is not offered: the body would be taken
        for the next request.
        """
        self._upgrading = self._in_head = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(INVALID)
            return b""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        return b"".join((method, b" ", self.url, b" HTTP/", version, b"\r\n", *fields, b"\r\n"))

    def on_message_begin(self) -> None:
        self._requests += 1
        self._in_head, self._framing, self._body = True, 0, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        self._in_head = False
        super().on_headers_complete()
        self.cycle.__class__ = Cycle  # uvicorn makes its own by name; the task of this one has not begun
        self.headers = NO_TRAILERS

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        self._body_of_part += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrading:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the next request. uvicorn also starts a timer, which takes 1 µs; `_look` closes idle connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self._refusal and not self._is_answering():
            self._refuse(self._refusal)
        elif self._held and not self._is_answering():
            data, self._held = self._held, b""
            self._ask(data)

    def shutdown(self) -> None:
        """Close the connection; an idle one a little later, because its client may already have sent a request."""
        if self._between_requests():
            self.loop.call_later(self._bounds.linger, super().shutdown)
        else:
            super().shutdown()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_answering(self) -> bool:
        """Whether a request has been received, and not been answered yet."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _refuse(self, answer: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_answering():  # the request before that which is refused
            self._refusal = answer
        elif not self._between_requests() and self.cycle.response_started:
            self.transport.abort()
        else:
            self.transport.write(answer)
            self.transport.close()

    def _look(self) -> None:
        """Close the connection of a client that has been at one stage of one request for too long."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        now, stage = self.loop.time(), self._stage()
        seen = None if stage is None else (stage, self._requests)
        if seen != self._seen:
            self._seen, self._since = seen, now
        patience = self._bounds.idle_seconds if stage is Stage.ASK else self._bounds.seconds
        if stage is not None and now - self._since >= patience:
            self._give_up(stage)
        every = min(self._bounds.seconds, self._bounds.idle_seconds) / LOOKS
        self._next_look = self.loop.call_later(max(every, LEAST_SECONDS), self._look)

    def _stage(self) -> Stage | None:
        """What the client has to do next; None if nothing."""
        if self._in_head and not self._is_answering():
            return Stage.HEAD
        if not self._between_requests():
            if self.cycle.more_body:
                return Stage.BODY
            return Stage.READ if self.flow.write_paused else None
        if self.transport.get_write_buffer_size():
            return Stage.READ
        return Stage.ASK

    def _give_up(self, stage: Stage) -> None:
        if stage is Stage.READ:
            self.transport.abort()
        elif stage is Stage.ASK:
            self.transport.close()
        else:
            self._refuse(TOO_SLOW)
