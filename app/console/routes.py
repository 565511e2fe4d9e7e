"""GET / and GET /console/…: the files of the console. They need no key and say nothing about the model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.console.files import PREFIX, File
from app.middleware.access import Access, needs
from app.middleware.security_headers import CONSOLE
from app.observability.telemetry import ROUTE

LABEL = PREFIX + "{name:path}"  # of metrics, one for all files
GZIP = re.compile(r"\bgzip\b", re.IGNORECASE)
REFUSED = re.compile(r"\bgzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)


def router(files: Mapping[str, File]) -> APIRouter:
    """One route for each of these files. A path below `/console/` that names no file is no route."""

    @needs(Access.OPEN, CONSOLE)
    async def serve(request: Request) -> Response:
        path = request.scope["path"]
        request.scope[ROUTE] = path if path == "/" else LABEL
        asked = request.headers
        return answer(files[path], asked.get("if-none-match", ""), asked.get("accept-encoding", ""))

    routes = APIRouter()
    for path in files:
        routes.add_route(path, serve, methods=["GET"], include_in_schema=False)
    return routes


def answer(file: File, known: str, accepted: str) -> Response:
    """A file, or 304 where the browser has it (`known`: If-None-Match), compressed where that is accepted."""
    headers = {"ETag": file.etag, "Vary": "Accept-Encoding"}
    if file.etag in (tag.strip() for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    if not _accepts_gzip(accepted):
        return Response(file.body, headers=headers, media_type=file.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(file.compressed, headers=headers, media_type=file.media_type)


def _accepts_gzip(accepted: str) -> bool:
    return GZIP.search(accepted) is not None and REFUSED.search(accepted) is None
