"""Refuses what may not be asked, or not now, before any of the body is read: too much at once, no key, too often."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from app.engine.errors import OverloadedError
from app.errors import answer_error
from app.middleware.access import BY_NAME, NEEDS, Access
from app.middleware.auth import ApiKeys
from app.middleware.rate_limit import RateLimit
from app.observability.telemetry import Telemetry
from models.errors import RatecastError

PROBE, OPEN = Access.PROBE, Access.OPEN  # looked up once: each request is compared with them


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may ask, and how much at once.

    Attributes:
        keys: that are accepted. Open routes need none, and do not count against a rate limit.
        rate_limit: how often each principal may ask; None: as often as they like.
        concurrent: most requests at a time.
    """

    keys: ApiKeys
    rate_limit: RateLimit | None
    concurrent: int


class Guard:
    """ASGI middleware: refuses a request, or passes it on.

    Args:
        app: what answers.
        rules: what is refused.
        telemetry: knows how many requests are under way.
    """

    def __init__(self, app: ASGIApp, rules: Rules, telemetry: Telemetry) -> None:
        self._app = app
        self._rules = rules
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                self._check(scope)
        except RatecastError as error:
            await answer_error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        access, rules = scope[NEEDS].access, self._rules
        if access is PROBE:
            return
        if self._telemetry.under_way > rules.concurrent:
            raise OverloadedError(f"{rules.concurrent} requests are under way already")
        if access is OPEN:
            return
        principal = rules.keys.admit(scope[BY_NAME].get(b"authorization"), access)
        if rules.rate_limit is not None:
            rules.rate_limit.check(principal)
