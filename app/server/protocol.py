"""HTTP/1.1 as uvicorn speaks it, with the head and the first part of an answer in one write.

uvicorn writes them one after the other, and uvloop hands each to the system at once: a second system call, which takes
6 µs, a tenth of what a prediction takes in all.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from app.server.connections import BoundedProtocol

HEAD, INTERIM = b"HTTP/1.1 ", b"HTTP/1.1 1"


class JoiningTransport:
    """A transport that holds the head of an answer back until the next write, or for the rest of the loop's turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
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
        if not self.is_closing():  # it may have been given up a moment ago; uvloop raises then
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class JoiningProtocol(BoundedProtocol):
    """The bounded protocol on such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))
