"""Streams of HTTP/1.1 requests, also such that may be read in two ways, and servers that say what they have read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import uvicorn

from app.server.launcher import _config
from app.settings import Settings
from tests.support.waiting import wait_until

SENTINEL = "/sentinel"
FRAMINGS: Sequence[str] = (
    "content-length: {n}", "Content-Length:{n}", "content-length: {n} ", "content-length:\t{n}",
    "content-length: 0{n}", "content-length: +{n}", "content-length: -{n}", "content-length: {n}, {n}",
    "content-length: {n}, 0", "content-length: 0x{n}", "content-length: {n}.0", "content-length: {n};",
    "content-length:", "content-length: ", "content-length : {n}", " content-length: {n}", "content_length: {n}",
    "content-length: {m}", "content-length: 99999999999999999999", "content-length: 18446744073709551621",
    "content-length: {n}\r\n 0", "content-length: {n}\r\ncontent-length: {n}",
    "content-length: {n}\r\ncontent-length: 0", "x: y\r\n content-length: {n}", "transfer-encoding: chunked",
    "Transfer-Encoding:chunked", "transfer-encoding: Chunked", "transfer-encoding:\tchunked",
    "transfer-encoding: chunked ", "transfer-encoding: identity", "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked, identity", "transfer-encoding: chunked, chunked", "transfer-encoding: xchunked",
    "transfer-encoding: chunked;q=1", 'transfer-encoding: "chunked"', "transfer-encoding:",
    "transfer-encoding: ,chunked", "transfer-encoding : chunked", "transfer_encoding: chunked",
    " transfer-encoding: chunked", "transfer-encoding\t: chunked",
    "transfer-encoding: identity\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ntransfer-encoding: x",
    "transfer-encoding:\r\n chunked", "transfer-encoding: \x0bchunked", "transfer-encoding: chunked\x00",
    "content-length: {n}\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: {n}",
    "content-length: 0\r\ntransfer-encoding: chunked", "transfer-encoding: identity\r\ncontent-length: {n}", "x: y",
    "",
)  # fmt: skip
PLAIN = (FRAMINGS[0], FRAMINGS[24])  # what is usual, half of the time
FIELDS: Sequence[str] = (
    "connection: upgrade\r\nupgrade: h2c",
    "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk", "upgrade: websocket",
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13",
    "connection: close", "connection: keep-alive", "connection: content-length", "connection: transfer-encoding",
    "expect: 100-continue", "expect: x", "te: trailers", "trailer: x", "x: a\r\n b", "x: a\r\n\tb", "no colon",
    ": no name", "x\x00: y", "x: \x00", "x: a\rb", "x: a\nb: c", "host: other", "x: é",
    "proxy-connection: keep-alive", "keep-alive: 5",
)  # fmt: skip
LINES: Sequence[str] = (
    "{method} {path} HTTP/1.1", "{method} {path} HTTP/1.0", "{method}  {path} HTTP/1.1", "{method} {path} HTTP/1.1 ",
    "{method}\t{path} HTTP/1.1", "{method} {path} http/1.1", "{method} {path} HTTP/1.2", "{method} {path} HTTP/2.0",
    "{method} {path}", " {method} {path} HTTP/1.1", "{method} {path} HTTP/01.1", "{method} {path} HTTP/1.1x",
)  # fmt: skip
CHUNKS: Sequence[str] = (
    "{x}\r\n{d}\r\n", "{x};a=b\r\n{d}\r\n", "{x} \r\n{d}\r\n", '{x};a="b\r\n{d}\r\n', "0{x}\r\n{d}\r\n",
    "{X}\r\n{d}\r\n", " {x}\r\n{d}\r\n", "0x{x}\r\n{d}\r\n", "+{x}\r\n{d}\r\n", "{x}\n{d}\n", "{x}\r\n{d}\n",
    "{x}\n{d}\r\n", "{x}\r{d}\r", "{x}\r\n{d}", "{x}\r\n{d}x\r\n", "{x}\t\r\n{d}\r\n", "1{z}{x}\r\n{d}\r\n",
    "{x};\n\r\n{d}\r\n", "{x}g\r\n{d}\r\n", "\r\n{d}\r\n",
)  # fmt: skip
ENDS: Sequence[str] = (
    "0\r\n\r\n", "00\r\n\r\n", "0;a\r\n\r\n", "0\r\nx: y\r\n\r\n", "0\r\ncontent-length: 5\r\n\r\n",
    "0\r\n x\r\n\r\n", "0\n\n", "0\r\n\n", "0 \r\n\r\n", "0\r\nx\r\n\r\n", "-0\r\n\r\n",
    "0\r\ntransfer-encoding: chunked\r\n\r\n",
)  # fmt: skip


class Streams:
    """Generates streams of one to four requests and a last one, `GET /sentinel`, that asks to close."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> bytes:
        number = self._random.choice((1, 1, 2, 3))
        requests = "".join(self._request(at) for at in range(number))
        return (requests + f"GET {SENTINEL} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").encode("latin-1")

    def _request(self, at: int) -> str:
        method = self._random.choice(("POST", "POST", "PUT", "GET", "DELETE", "HEAD"))
        line = self._unusual(LINES, 0.06).format(method=method, path=f"/{self._random.choice(('read', 'unread'))}/{at}")
        size = self._random.choice((0, 1, 5, 5, 30))
        framing = self._random.choice(PLAIN if self._random.random() < 0.5 else FRAMINGS)
        fields = ["host: x", *self._random.sample(FIELDS, self._random.choice((0, 0, 0, 1, 1, 2)))]
        if framing:
            fields.insert(self._random.randint(0, len(fields)), framing.format(n=size, m=size + 3))
        end = "\n" if self._random.random() < 0.04 else "\r\n"
        blank = self._random.choice(("\r\n", "\n")) if end == "\n" else "\r\n"
        body = self._chunked(size) if "chunked" in framing.lower() else self._text(size)
        start = "\r\n" * (self._random.random() < 0.04)
        return start + end.join([line, *fields]) + end + blank + body

    def _chunked(self, size: int) -> str:
        chunks, left = "", size
        while left:
            part = self._random.randint(1, left)
            left -= part
            form = self._unusual(CHUNKS, 0.15)
            chunks += form.format(x=f"{part:x}", X=f"{part:X}", d=self._text(part), z="0" * 15)
        return chunks + self._unusual(ENDS, 0.2)

    def _text(self, size: int) -> str:
        """A body that looks like a request, for whoever reads too little."""
        return ("GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n" if self._random.random() < 0.3 else "abcdefgh" * 5)[:size]

    def _unusual(self, forms: Sequence[str], share: float) -> str:
        return self._random.choice(forms) if self._random.random() < share else forms[0]


def echo(method: str, path: str, body: bytes) -> bytes:
    """How a server tells what it read as one request. A body that it was not to read it has not seen."""
    seen = "" if path.startswith("/unread") else hashlib.sha256(body).hexdigest()[:16]
    return json.dumps([method, path, seen]).encode()


async def application(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Says what the service's protocol has read."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", not scope["path"].startswith("/unread")
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    told = echo(scope["method"], scope["path"], body)
    headers = [(b"content-length", str(len(told)).encode()), (b"x-echo", told)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else told})


@contextmanager
def service() -> Iterator[int]:
    """The port of a server that reads as the service does, and answers with `echo`."""
    server = uvicorn.Server(_config(Settings(max_seconds=2), lambda: application))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(60)


async def recorder(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What stands behind the proxy: it answers with `echo` of what the proxy has sent on, which is well-formed."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split("\r\n", 1)[0].split(" ")
            body = b""
            if re.search(r"^transfer-encoding:", head, re.IGNORECASE | re.MULTILINE):
                while size := int((await reader.readline()).partition(b";")[0], 16):
                    body += await reader.readexactly(size)
                    await reader.readexactly(2)
                while (await reader.readline()).strip():
                    pass
            elif length := re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE):
                body = await reader.readexactly(int(length[1]))
            told = echo(method, path, body)
            answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-echo: %b\r\n\r\n" % (len(told), told)
            writer.write(answer + (b"" if method == "HEAD" else told))
    writer.close()


class Read(NamedTuple):
    """What a server has read as requests, by its answers, and whether it has closed the connection after them."""

    requests: list[str]
    closed: bool


async def exchange(port: int, stream: bytes, seconds: float) -> Read:
    """Send a stream to a server, and see what it reads. It is left when it has said nothing for so long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told: list[str] = []
    writer.write(stream)
    try:
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), seconds)
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split()[1])
            if status < 200:
                continue
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            told.append(fields.get("x-echo", f"refused {status}"))
            if not told[-1].startswith('["HEAD"'):
                await asyncio.wait_for(reader.readexactly(int(fields["content-length"])), seconds)
    except TimeoutError:
        return Read(told, False)
    except (asyncio.IncompleteReadError, ConnectionError):
        return Read(told, True)
    finally:
        writer.close()
