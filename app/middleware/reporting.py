"""The outermost layer: gives each answer its id and headers; counts, times, compresses and logs it.

No other layer wraps `send`.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Awaitable
from itertools import count
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import CAUSE, bug_response
from app.middleware.access import BY_NAME, NEEDS, RouteNeeds, decode_segments
from app.middleware.compression import accepts_gzip, compressing
from app.observability.logs import log_request
from app.observability.telemetry import Telemetry
from app.server.shutdown import Shutdown

ROUTE = "route_template"  # in the scope of a request that no route of FastAPI answers
VERSION = "answering_version"  # in the scope while there is a split
REQUEST_ID = b"x-request-id"
CLOSE = ((b"connection", b"close"),)
_harmless = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch


class Reporting:
    """ASGI middleware, before everything else.

    Args:
        app: the application that answers.
        needs: finds what each request needs; that and the headers by name are put into the scope.
        telemetry: counts and times requests.
        log_share: share of the requests that are logged, from 0 to 1; every request that met a bug is.
        shutdown: whether the service is shutting down; clients are then asked to close their connections.
    """

    def __init__(
        self, app: ASGIApp, needs: RouteNeeds, telemetry: Telemetry, log_share: float, shutdown: Shutdown
    ) -> None:
        self._app = app
        self._needs = needs
        self._telemetry = telemetry
        self._log_share = log_share
        self._shutdown = shutdown
        self._id_prefix = secrets.token_hex(6)  # unique to this process
        self._id_numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        method = scope["method"]
        if method == "HEAD":
            scope, send = _as_get(scope, send)
        headers = scope[BY_NAME] = dict(reversed(scope["headers"]))  # the first of repeated headers counts
        decode_segments(scope)
        needs = scope[NEEDS] = self._needs.of(scope["method"], scope["path"])
        request_id = self._request_id(headers.get(REQUEST_ID))
        status = 0

        def answer(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID, request_id), *needs.headers]
                if self._shutdown.begun:
                    message["headers"] += CLOSE
            return send(message)

        accepted = headers.get(b"accept-encoding", b"")
        give = compressing(answer) if b"gzip" in accepted and accepts_gzip(accepted.decode("latin-1")) else answer
        self._telemetry.under_way += 1
        try:
            await self._app(scope, receive, give)
        except Exception:
            if status == 0:
                await bug_response()(scope, receive, answer)
            raise  # the server logs it
        finally:
            self._telemetry.under_way -= 1
            # the template of a route, so that no id is counted or logged
            route = scope[ROUTE] if ROUTE in scope else getattr(scope.get("route"), "path", "none")
            seconds, cause = perf_counter() - began, scope.get(CAUSE)
            self._telemetry.request(route, method, status, seconds, cause, scope.get(VERSION))
            if random.random() < self._log_share or status == 500:  # no secret  # noqa: S311  # nosec B311
                log_request(request_id, method, route, status, seconds, cause)

    def _request_id(self, given: bytes | None) -> bytes:
        """The client's id if it is harmless, else a new one.

        The library asgi-correlation-id does this too, but takes 15 µs, a quarter of what a prediction takes in all.
        """
        if given is not None and _harmless(given):
            return given
        return f"{self._id_prefix}-{next(self._id_numbers):x}".encode()


def _as_get(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """A HEAD request as a GET request, and a `send` that drops the body of its answer (RFC 9110, 9.3.2)."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return {**scope, "method": "GET"}, send_head
