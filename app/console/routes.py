"""GET / and GET /console/…: the files of the console. They need no key and contain nothing about the model.

They are read once, when the service starts. Starlette's StaticFiles would compress them for every request, and would
not leave a not leave a path that names no file to the other routes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.middleware.access import Access, needs
from app.middleware.browsers import CONSOLE
from app.middleware.reporting import ROUTE

STATIC = Path(__file__).with_name("static")
PREFIX = "/console/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
NAMES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in TYPES)
PATHS: Mapping[str, str] = {("/" if name == "index.html" else PREFIX + name): name for name in NAMES}
LABEL = PREFIX + "{name:path}"  # of metrics, one for all files
GZIP = re.compile(r"\bgzip\b", re.IGNORECASE)
REFUSED = re.compile(r"\bgzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent, plain and compressed."""

    body: bytes
    compressed: bytes
    etag: str
    media_type: str


def read_files() -> Mapping[str, File]:
    """Every file of the console by its path."""
    return {path: _read(STATIC / name) for path, name in PATHS.items()}


def _read(path: Path) -> File:
    body = path.read_bytes()
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'  # weak: the same for both encodings
    return File(body, gzip.compress(body, mtime=0), etag, TYPES[path.suffix])


def router() -> APIRouter:
    """One route for each file. A path below `/console/` that names no file is no route."""
    files = read_files()

    @needs(Access.OPEN, CONSOLE)
    async def serve(request: Request) -> Response:
        path = request.scope["path"]
        request.scope[ROUTE] = path if path == "/" else LABEL
        if path not in files:  # the pattern of a route matches before a line end at the end of a path too
            raise HTTPException(404)
        asked = request.headers
        return _answer(files[path], asked.get("if-none-match", ""), asked.get("accept-encoding", ""))

    routes = APIRouter()
    for path in files:
        routes.add_route(path, serve, methods=["GET"], include_in_schema=False)
    return routes


def _answer(file: File, known: str, accepted: str) -> Response:
    """A file, or 304 if the browser has it (`known`: If-None-Match), compressed if the browser accepts that."""
    headers = {"ETag": file.etag, "Vary": "Accept-Encoding"}
    if file.etag in (tag.strip() for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    if not GZIP.search(accepted) or REFUSED.search(accepted):
        return Response(file.body, headers=headers, media_type=file.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(file.compressed, headers=headers, media_type=file.media_type)
