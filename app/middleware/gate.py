"""What every request passes first: it gets an id, shows its key, is counted, timed and logged when it is answered.

Here is refused what may not be asked, or not now, before anything of the body is read.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console.files import PATHS
from app.engine.errors import OverloadedError
from app.errors import (
    CAUSE,
    ForbiddenError,
    TooManyRequestsError,
    UnauthorizedError,
    answer_error,
    bug_response,
)
from app.middleware.auth import Keys
from app.middleware.rate_limit import RateLimit
from app.observability.logs import RequestLog
from app.observability.telemetry import Telemetry
from app.server.shutdown import Shutdown
from models.errors import RatecastError

ROUTE = "route_template"  # in the scope, set by the front door
OPEN_PATHS = frozenset(("/docs", "/openapi.json", "/health/live", "/health/ready", *PATHS))
UNBOUNDED_PATHS = frozenset(("/health/live", "/health/ready"))  # answered however much else there is to do
READING_POSTS = frozenset(("/predict", "/recommend"))
UNSNIFFED = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
SECURITY = (*UNSNIFFED, (b"cache-control", b"no-store"))
DATA = (*SECURITY, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"))
CDN = "https://cdn.jsdelivr.net"  # of the script and the style of FastAPI's page; a script in the page starts them
PAGE_POLICY = (
    f"default-src 'none'; script-src 'unsafe-inline' {CDN}; style-src 'unsafe-inline' {CDN}; connect-src 'self'; "
    "img-src 'self' data: https://fastapi.tiangolo.com; frame-ancestors 'none'"
)
CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CONSOLE = (  # kept by browsers, but asked for each time whether it is still the same
    *UNSNIFFED,
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", CONSOLE_POLICY.encode()),
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
REPORT = (*SECURITY, (b"content-security-policy", REPORT_POLICY.encode()))
HEADERS = {
    "/docs": (*SECURITY, (b"content-security-policy", PAGE_POLICY.encode())),
    **dict.fromkeys(PATHS, CONSOLE),
}
LEAVE = (b"connection", b"close")
_TRUSTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may ask what, and how much at once.

    Attributes:
        keys: who may ask; the paths in `OPEN_PATHS` need no key, and count as no request of anybody's share.
        rates: how often each may; None: as often as they like.
        under_way: most requests at a time.
        all_may_rate: whether whoever may ask may also store ratings and take them back.
    """

    keys: Keys
    rates: RateLimit | None
    under_way: int
    all_may_rate: bool = False


class Gate:
    """ASGI middleware, before everything else.

    Args:
        app: what answers.
        rules: what is refused.
        telemetry: counts and times.
        log: is told of each answer.
        draining: whether the service is about to stop; clients are then asked to leave their connection.
        across: what tells browsers which pages may ask. It answers before a key is asked for, and marks refusals too.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        telemetry: Telemetry,
        log: RequestLog,
        draining: Shutdown,
        across: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        self.app = app
        self._inside = self._admit if across is None else across(self._admit)
        self._rules = rules
        self._telemetry = telemetry
        self._log = log
        self._draining = draining
        self._prefix = secrets.token_hex(6)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = self._request_id(dict(scope["headers"]).get(b"x-request-id"))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *self._added(scope["path"])]
            await send(message)

        self._telemetry.under_way += 1
        try:
            await self._inside(scope, receive, answer)
        except Exception:
            if status == 0:
                await bug_response()(scope, receive, answer)
            raise  # the server logs it
        finally:
            self._telemetry.under_way -= 1
            seconds, route, cause = time.perf_counter() - began, _template(scope), scope.get(CAUSE)
            self._telemetry.request(route, scope["method"], status, seconds, cause)
            self._log.note(request_id, scope["method"], route, status, seconds, cause)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope, dict(scope["headers"]).get(b"authorization"))
        await (self.app if refusal is None else answer_error(refusal))(scope, receive, send)

    def _refusal(self, scope: Scope, authorization: bytes | None) -> RatecastError | None:
        """Why a request is refused, if it is."""
        path, rules = scope["path"], self._rules
        if path in UNBOUNDED_PATHS:
            return None
        if self._telemetry.under_way > rules.under_way:
            return OverloadedError(f"{rules.under_way} requests are under way already")
        if path in OPEN_PATHS:
            return None
        holder = rules.keys.holder(authorization)
        if holder is None:
            return UnauthorizedError("an API key is wanted: Authorization: Bearer KEY")
        may_change = holder.changes or (rules.all_may_rate and rates(scope["method"], path))
        if not may_change and changes(scope["method"], path):
            if authorization is None:
                return UnauthorizedError("an admin key is wanted: Authorization: Bearer KEY")
            return ForbiddenError("an admin key is wanted for what changes state")
        if rules.rates is not None and not holder.admin and (seconds := rules.rates.wait(holder.number)):
            return TooManyRequestsError(math.ceil(seconds))
        return None

    def _added(self, path: str) -> tuple[tuple[bytes, bytes], ...]:
        """Headers of every answer."""
        added = HEADERS.get(path, DATA)
        if path.endswith("/report") and path.startswith("/models/"):
            added = REPORT
        return (*added, LEAVE) if self._draining.begun else added

    def _request_id(self, given: bytes | None) -> bytes:
        """The client's, where it is harmless, else a new one."""
        if given is not None and _TRUSTED_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}".encode()


def changes(method: str, path: str) -> bool:
    """Whether a request may change state."""
    return method not in ("GET", "HEAD", "OPTIONS") and path not in READING_POSTS


def rates(method: str, path: str) -> bool:
    """Whether a request stores ratings or takes one back, and does no more than that."""
    if method == "POST":
        return path == "/ratings"
    return method in ("PUT", "DELETE") and path.startswith("/users/") and "/ratings/" in path


def _template(scope: Scope) -> str:
    """The route's template, so that no id becomes a label."""
    if ROUTE in scope:
        return str(scope[ROUTE])
    return str(getattr(scope.get("route"), "path", "none"))
