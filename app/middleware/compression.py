"""Answers as gzip for those who ask for it, from a size on that is worth it; nobody else pays for that."""

from __future__ import annotations

import asyncio
import re
import zlib

from starlette.types import Message, Send

LEAST = 1_000  # bytes: a smaller answer is one packet anyway
QUICK = 1 << 14  # bytes: 0.2 ms; more is compressed on another thread
LEVEL = 1  # takes a third of the time of the usual 6, and makes JSON of predictions only a tenth larger
GZIP_WINDOW = 31  # zlib's number for gzip's format with the largest window
TEXTS = (b"application/json", b"application/problem+json", b"text/")
_asked = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?P<weight>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE).search


def accepts_gzip(accepted: str) -> bool:
    """Whether the client that sent this Accept-Encoding takes gzip."""
    found = _asked(accepted)
    return found is not None and (found["weight"] is None or found["weight"].strip("0.") != "")


def compressing(send: Send) -> Send:
    """A `send` that compresses a whole answer of text, unless it is small or compressed already."""
    head: Message | None = None

    async def send_compressed(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            head = message  # the length is not known before the body
            return
        if head is not None:
            start, head = head, None
            body = message.get("body", b"")
            if len(body) > LEAST and not message.get("more_body") and _is_plain_text(start):
                body = _compressed(body) if len(body) <= QUICK else await asyncio.to_thread(_compressed, body)
                message = {**message, "body": body}
                start = {**start, "headers": _headers(start, len(body))}
            await send(start)
        await send(message)

    return send_compressed


def _is_plain_text(start: Message) -> bool:
    headers = dict(start["headers"])
    return b"content-encoding" not in headers and headers.get(b"content-type", b"").startswith(TEXTS)


def _headers(start: Message, length: int) -> list[tuple[bytes, bytes]]:
    kept = [header for header in start["headers"] if header[0] != b"content-length"]
    return [*kept, (b"content-length", b"%d" % length), (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]


def _compressed(body: bytes) -> bytes:
    work = zlib.compressobj(LEVEL, wbits=GZIP_WINDOW)
    return work.compress(body) + work.flush()
