"""The header `Idempotency-Key`: a request that is sent again under its key is answered, and not carried out again."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel

from app.api.plain import Errors
from app.errors import InvalidRequestError
from app.ratings.records import RequestKey

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


def read_key(given: bytes | None, errors: Errors) -> str | None:
    """The header of a plain route, its length checked as `KeyHeader` says. Raises as `check_key`."""
    if given is None:
        return None
    key = given.decode("latin-1")
    if 1 <= len(key) <= MAX_LENGTH:
        return check_key(key)
    bound = f"most {MAX_LENGTH} characters" if key else "least 1 character"
    errors.append({"type": "string", "loc": PLACE, "msg": f"String should have at {bound}"})
    return None


def check_key(key: str) -> str:
    """Raise InvalidRequestError for a key that a database could not hold, or a log not show."""
    if not key.isprintable():
        raise InvalidRequestError(PLACE, "a key must have only printable characters")
    return key


def request_key(key: str | None, body: BaseModel) -> RequestKey | None:
    """The key with a fingerprint of a request's body; None without a key."""
    if key is None:
        return None
    content = body.model_dump_json().encode("utf-8", "surrogatepass")
    return RequestKey(check_key(key), hashlib.sha256(content).hexdigest())
