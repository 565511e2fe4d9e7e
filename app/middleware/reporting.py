"""The outermost layer: gives each answer its id and headers; counts, times and logs it. No other layer wraps `send`."""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import CAUSE, bug_response
from app.middleware.access import BY_NAME, NEEDS, RouteNeeds
from app.middleware.request_id import HEADER, RequestIds
from app.observability.logs import RequestLog
from app.observability.telemetry import Telemetry, route_label
from app.server.shutdown import Shutdown

CLOSE = ((b"connection", b"close"),)


class Reporting:
    """ASGI middleware, before everything else.

    Args:
        app: what answers.
        needs: finds what each request needs, which is put into its scope, as its headers by name are.
        telemetry: counts and times.
        log: is told of each answer.
        shutdown: whether the service is about to stop; clients are then asked to close their connection.
    """

    def __init__(
        self, app: ASGIApp, needs: RouteNeeds, telemetry: Telemetry, log: RequestLog, shutdown: Shutdown
    ) -> None:
        self._app = app
        self._needs = needs
        self._telemetry = telemetry
        self._log = log
        self._shutdown = shutdown
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        method = scope["method"]
        headers = scope[BY_NAME] = dict(reversed(scope["headers"]))  # of one that is given twice the first counts
        needs = scope[NEEDS] = self._needs.of(method, scope["path"])
        request_id = self._ids.of(headers.get(HEADER))
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER, request_id), *needs.headers]
                if self._shutdown.begun:
                    message["headers"] += CLOSE
            await send(message)

        self._telemetry.under_way += 1
        try:
            await self._app(scope, receive, answer)
        except Exception:
            if status == 0:
                await bug_response()(scope, receive, answer)
            raise  # the server logs it
        finally:
            self._telemetry.under_way -= 1
            seconds, route, cause = perf_counter() - began, route_label(scope), scope.get(CAUSE)
            self._telemetry.request(route, method, status, seconds, cause)
            self._log.note(request_id, method, route, status, seconds, cause)
