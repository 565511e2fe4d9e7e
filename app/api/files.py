"""Files that browsers load and keep: each with its tag, plain and compressed."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from app.middleware.compression import accepts_gzip

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent, plain and compressed."""

    body: bytes
    compressed: bytes
    etag: str
    media_type: str


def file(body: bytes, suffix: str) -> File:
    """A file with this content, and with the media type of the suffix of its name."""
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'  # weak: the same for both encodings
    return File(body, gzip.compress(body, mtime=0), etag, TYPES[suffix])


def answer_file(found: File, request: Request) -> Response:
    """The file, or 304 if the browser has it, compressed if the browser accepts that."""
    headers = {"ETag": found.etag, "Vary": "Accept-Encoding"}
    if found.etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(found.body, headers=headers, media_type=found.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(found.compressed, headers=headers, media_type=found.media_type)
