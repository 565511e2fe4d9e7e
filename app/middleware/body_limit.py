"""How large a request's body may be, declared or not.

Starlette's own `max_body_size` answers in plain text where the length is declared.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import answer_error, body_too_large


class BodyLimit:
    """ASGI middleware of FastAPI's routes: refuses a body of more than `max_bytes`.

    A body of a length that is not declared is refused while FastAPI reads it: `app.errors` finds the error as the
    cause of FastAPI's own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await answer_error(body_too_large(self._max_bytes))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise body_too_large(self._max_bytes)
            return message

        await self._app(scope, counted, send)
