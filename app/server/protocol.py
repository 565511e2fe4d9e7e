"""uvicorn's HTTP/1.1 with limits, a few requests a turn, and the head and first part of an answer in one write.

Only this file uses parts of uvicorn that are not documented. `tests/app/server/test_uvicorn.py` names them: those of
`HttpToolsProtocol`, of the parent of several workers, and the import of an application by its name.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, cast

import httptools
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.importer import import_from_string
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

from app.server.bounds import HEAD_TOO_LARGE, INVALID, MAX_HEAD, TOO_MANY, TOO_MUCH, TOO_SLOW, ConnectionBounds

__all__ = ["STARTUP_FAILURE", "BoundedProtocol", "import_from_string", "supervise"]

PER_TURN, PARTS_A_TURN = 16, 64  # requests, about 1 ms, and parts of pipelined ones
HEALTH = b"GET /health/live ", b"HEAD /health/live "
LOOKS, LEAST_SECONDS = 4, 0.05  # in the time of a request, and between two of them
HEAD, INTERIM = b"HTTP/1.1 ", b"HTTP/1.1 1"
END = b"\r\n\r\n"  # of a head, of trailers and of a chunked body
FRAMING = 16  # bytes a byte of the body, beside those of a head: chunks of one byte have 5


class Workers(Multiprocess):
    def keep_subprocess_alive(self) -> None:
        """As uvicorn's; but the end of a worker ends the wait for its answer, since nobody else has its end open."""
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


def supervise(config: Config, listener: socket.socket) -> bool:
    """Run the workers of a configuration, and replace those that die. Returns whether all of them could start."""
    supervisor = Workers(config, sockets=[listener])
    supervisor.run()
    return all(process.exitcode != STARTUP_FAILURE for process in supervisor.processes)


class Entry(Enum):
    """The decision about the bytes that a client sent."""

    NOW = "now"
    LATER = "later"
    REFUSED = "refused"


class Admission:
    """Admits a few requests at each turn of the event loop, so that turns stay short however many clients ask at once.

    A plain request takes the loop some 60 µs. If a thousand connections became readable together, one turn would take
    60 ms, and requests that arrive meanwhile, health checks too, would wait for it. So the others wait in the order in
    which they came; those beyond a limit are refused without being read. Each process has one loop and one Admission.

    Args:
        waiting: how many connections may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._most, self._entered = waiting, 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False

    def ask(self, enter: Callable[[], None], data: bytes, loop: asyncio.AbstractEventLoop) -> Entry:
        """Decide whether a connection may continue with `data`. After `LATER`, `enter` is called in its turn."""
        if self._entered < PER_TURN or data.startswith(HEALTH):
            self._entered += 1
            if not self._turning:
                self._turning = True
                loop.call_soon(self._turn, loop)
            return Entry.NOW
        if len(self._waiting) >= self._most:
            return Entry.REFUSED
        self._waiting.append(enter)
        return Entry.LATER

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a turn with the connections that are already waiting."""
        self._entered = min(PER_TURN, len(self._waiting))
        for _ in range(self._entered):
            self._waiting.popleft()()
        self._turning = self._entered > 0
        if self._turning:
            loop.call_soon(self._turn, loop)


class Stage(Enum):
    """The action of its client that a connection waits for."""

    ASK = "ask"
    HEAD = "send the rest of the head"
    BODY = "send the rest of the body"
    READ = "read the answer"


class JoiningTransport:
    """A transport that holds the head of an answer back until the next write, or for the rest of the loop's turn.

    uvicorn writes head and body one after the other, and uvloop hands each to the system at once: a second system call,
    which takes 6 µs, a tenth of what a prediction takes in all.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._head = transport, loop, b""
        self.is_closing = transport.is_closing  # asked of every answer

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(HEAD) and not data.startswith(INTERIM):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._write(head)

    def _write(self, data: bytes) -> None:
        if not self.is_closing():  # else the connection was just closed, and uvloop would raise
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


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
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))
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
            self._unset_keepalive_if_required()
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
        self._unset_keepalive_if_required()
        for _ in range(PARTS_A_TURN):
            end = data.find(END)
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
        self.headers = cast("list[tuple[bytes, bytes]]", deque(maxlen=0))  # trailers are not kept

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        self._body_of_part += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrading:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal and not self._is_answering():
            self._refuse(self._refusal)
        elif self._held and not self.transport.is_closing() and not self._is_answering():
            self._unset_keepalive_if_required()
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
        if stage is not None and now - self._since >= self._patience(stage):
            self._give_up(stage)
        every = min(self._bounds.seconds, self._bounds.idle_seconds) / LOOKS
        self._next_look = self.loop.call_later(max(every, LEAST_SECONDS), self._look)

    def _stage(self) -> Stage | None:
        """What the client has to do next; None if nothing, or if uvicorn itself waits for it."""
        if self._in_head and not self._is_answering():
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
        if stage is Stage.READ:
            self.transport.abort()
        elif stage is Stage.ASK:
            self.transport.close()
        else:
            self._refuse(TOO_SLOW)
