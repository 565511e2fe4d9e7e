"""The header `Idempotency-Key`: a request that is sent again under its key is answered, and not carried out again."""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeVar

from fastapi import Header
from pydantic import BaseModel, TypeAdapter
from starlette.types import Receive, Scope

from app.api.plain import Errors, read_document
from app.errors import InvalidRequestError
from app.middleware.access import BY_NAME
from app.ratings.records import RequestKey

T = TypeVar("T")
MAX_LENGTH = 256
PLACE = "header", "Idempotency-Key"
KeyHeader = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_LENGTH,
        description="A request whose key was used in the last seven days is answered but not carried out again.",
    ),
]


async def read_with_key(scope: Scope, receive: Receive, adapter: TypeAdapter[T]) -> tuple[T, str | None]:
    """The body of a request to a plain route, and its key. Raises as `read_document`."""
    headers, errors = scope[BY_NAME], list[object]()
    key = _read_key(headers.get(b"idempotency-key"), errors)
    media_type = headers.get(b"content-type", b"")
    return await read_document(receive, adapter, media_type, scope["state"]["limits"], errors), key


def _read_key(given: bytes | None, errors: Errors) -> str | None:
    """The header, its length checked as `KeyHeader` says.

    Raises InvalidRequestError for a key that a database could not hold, or a log not show.
    """
    if given is None:
        return None
    key = given.decode("latin-1")
    if 1 <= len(key) <= MAX_LENGTH:
        if not key.isprintable():
            raise InvalidRequestError(PLACE, "a key must have only printable characters")
        return key
    bound = f"most {MAX_LENGTH} characters" if key else "least 1 character"
    errors.append({"type": "string", "loc": PLACE, "msg": f"String should have at {bound}"})
    return None


def request_key(key: str | None, body: BaseModel) -> RequestKey | None:
    """The key with a fingerprint of a request's body; None without a key."""
    if key is None:
        return None
    content = body.model_dump_json().encode("utf-8", "surrogatepass")
    return RequestKey(key, hashlib.sha256(content).hexdigest())
