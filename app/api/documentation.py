"""GET /docs: Swagger UI, from the service itself; neither it nor the document that it shows needs another host.

Its addresses are relative, because a proxy may add a prefix.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.api.files import File, answer_file, file
from app.api.openapi import DOCUMENT
from app.middleware.access import Access, needs
from app.middleware.browsers import DOCUMENTATION, DOCUMENTATION_FILE

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Ratecast: HTTP API</title>
<link rel="icon" href="console/icon.svg">
<link rel="stylesheet" href="docs/swagger-ui.css">
<main id="page"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
START = f'SwaggerUIBundle({{ url: "{DOCUMENT}", dom_id: "#page", deepLinking: true }});\n'
PARTS = ("swagger-ui.css", "swagger-ui-bundle.js", "start.js")  # all but the last are files of fastapi-swagger

router = APIRouter()


@needs(Access.OPEN, DOCUMENTATION)
async def documentation(_: Request) -> Response:
    return HTMLResponse(PAGE)


@needs(Access.OPEN, DOCUMENTATION_FILE)
async def part(request: Request) -> Response:
    name = request.scope["path"].rpartition("/")[2]
    if name not in PARTS:  # the pattern of a route matches before a line end at the end of a path too
        raise HTTPException(404)
    return answer_file(await asyncio.to_thread(_part, name), request)


@cache  # read when it is first asked for: compressing it takes as long as starting the service
def _part(name: str) -> File:
    published = resources.files("fastapi_swagger.resources")
    body = START.encode() if name == PARTS[-1] else published.joinpath(name).read_bytes()
    return file(body, PurePosixPath(name).suffix)


router.add_route("/docs", documentation, include_in_schema=False)
for name in PARTS:
    router.add_route(f"/docs/{name}", part, include_in_schema=False)
