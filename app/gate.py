"""What every request passes first: it gets an id, shows its key, and is counted and timed when it is answered."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.draining import Draining
from app.errors import UnauthorizedError, answer_error, bug_response
from app.keys import Keys
from app.telemetry import Telemetry

ROUTE = "route_template"  # in the scope, set by the front door
OPEN_PATHS = frozenset(("/", "/docs", "/openapi.json", "/health/live", "/health/ready"))
LEAVE = ((b"connection", b"close"),)
_TRUSTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Gate:
    """ASGI middleware, before everything else.

    Args:
        app: what answers.
        keys: who may ask; the paths in `OPEN_PATHS` need no key.
        telemetry: counts and times.
        draining: whether the service is about to stop.
    """

    def __init__(self, app: ASGIApp, keys: Keys, telemetry: Telemetry, draining: Draining) -> None:
        self.app = app
        self._keys = keys
        self._telemetry = telemetry
        self._draining = draining
        self._prefix = secrets.token_hex(6)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._request_id(headers.get(b"x-request-id"))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *self._leaving()]
            await send(message)

        try:
            if self._keys.accept(headers.get(b"authorization")) or scope["path"] in OPEN_PATHS:
                await self.app(scope, receive, answer)
            else:
                refusal = answer_error(UnauthorizedError("an API key is wanted: Authorization: Bearer KEY"))
                await refusal(scope, receive, answer)
        except Exception:
            if status == 0:
                await bug_response()(scope, receive, answer)
            raise  # the server logs it
        finally:
            self._telemetry.request(_template(scope), scope["method"], status, time.perf_counter() - began)

    def _leaving(self) -> Sequence[tuple[bytes, bytes]]:
        """Asks the client to leave the connection, once the service is about to stop."""
        return LEAVE if self._draining.begun else ()

    def _request_id(self, given: bytes | None) -> bytes:
        """The client's, where it is harmless, else a new one."""
        if given is not None and _TRUSTED_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}".encode()


def _template(scope: Scope) -> str:
    """The route's template, so that no id becomes a label."""
    if ROUTE in scope:
        return str(scope[ROUTE])
    return str(getattr(scope.get("route"), "path", "none"))
