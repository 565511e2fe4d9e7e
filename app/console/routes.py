"""GET / and GET /console/…: the files of the console. They need no key and contain nothing about the model.

They are read once, when the service starts. Starlette's StaticFiles would compress them for every request, and would
not leave a not leave a path that names no file to the other routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.files import TYPES, File, answer_file, file
from app.middleware.access import Access, needs
from app.middleware.browsers import CONSOLE
from app.middleware.reporting import ROUTE

STATIC = Path(__file__).with_name("static")
PREFIX = "/console/"
NAMES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in TYPES)
PATHS: Mapping[str, str] = {("/" if name == "index.html" else PREFIX + name): name for name in NAMES}
LABEL = PREFIX + "{name:path}"  # of metrics, one for all files


def read_files() -> Mapping[str, File]:
    """Every file of the console by its path."""
    return {path: file((STATIC / name).read_bytes(), Path(name).suffix) for path, name in PATHS.items()}


def router() -> APIRouter:
    """One route for each file. A path below `/console/` that names no file is no route."""
    files = read_files()

    @needs(Access.OPEN, CONSOLE)
    async def serve(request: Request) -> Response:
        path = request.scope["path"]
        request.scope[ROUTE] = path if path == "/" else LABEL
        if path not in files:  # the pattern of a route matches before a line end at the end of a path too
            raise HTTPException(404)
        return answer_file(files[path], request)

    routes = APIRouter()
    for path in files:
        routes.add_route(path, serve, methods=["GET"], include_in_schema=False)
    return routes
