"""How much one request may ask for. Past a bound the answer is an error, before any work is done."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InvalidRequestError, problem_response


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request: pairs, items of a list, characters of an id."""

    pairs: int
    list_length: int
    id_length: int

    def check_id(self, id_: str, *location: str) -> None:
        """Raise InvalidRequestError for an id that is too long."""
        if len(id_) > self.id_length:
            raise InvalidRequestError(location, f"an id has at most {self.id_length} characters")

    def check_ids(self, ids: Iterable[str], *location: str) -> None:
        """Raise InvalidRequestError for the first id that is too long."""
        for position, id_ in enumerate(ids):
            if len(id_) > self.id_length:
                self.check_id(id_, *location, str(position))

    def check_pairs(self, users: Collection[str], items: Collection[str]) -> None:
        """Raise InvalidRequestError for columns that are unequal, too long or hold ids that are too long."""
        if len(users) != len(items):
            raise InvalidRequestError(
                ("body",), f"columns are of one length, but there are {len(users)} users and {len(items)} items"
            )
        if len(users) > self.pairs:
            raise InvalidRequestError(("body",), f"a request holds at most {self.pairs} pairs")
        self.check_ids(users, "body", "users")
        self.check_ids(items, "body", "items")

    def check_list(self, n: int) -> None:
        """Raise InvalidRequestError for a list that is too long."""
        if n > self.list_length:
            raise InvalidRequestError(("query", "n"), f"a list holds at most {self.list_length} items")


class BodyLimit:
    """Refuses bodies of more than `max_bytes`, declared or chunked, with a problem of status 413.

    Starlette's own `max_body_size` answers in plain text where the length is declared.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        detail = f"a request body has at most {self.max_bytes} bytes"
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            await problem_response(413, detail=detail)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, detail)
            return message

        await self.app(scope, counted, send)
