"""Reads the requests of plain routes: body, parameters, and what is wrong with them, said as FastAPI says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import Message as EmailMessage
from functools import cache, lru_cache
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Send

from app.api.parameters import User
from app.engine.errors import CancelledRequestError
from app.errors import body_too_large, unreadable_json

T = TypeVar("T")
Errors = list[Any]  # as pydantic gives them; all of a request are answered together
JSON = b"application/json"
LONG_QUERY = 256  # bytes; longer ones are not kept
_path_id = TypeAdapter(User)


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
    """The whole body.

    Raises BodyTooLargeError, before it is read where the length is declared, or CancelledRequestError.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > most:
        raise body_too_large(most)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body") and len(message.get("body", b"")) <= most:
        return bytes(message.get("body", b""))  # nearly always
    parts: list[bytes] = []
    received = 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        received += len(parts[-1])
        if received > most:
            raise body_too_large(most)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise CancelledRequestError("the client closed its connection before it had sent its request")


def read_parameters(model: type[BaseModel], query: bytes, errors: Errors) -> Mapping[str, Any]:
    """The parameters that a query gives, validated. What is wrong with them is added to `errors`."""
    try:
        return _parameters(model, query) if len(query) <= LONG_QUERY else _parameters.__wrapped__(model, query)
    except ValidationError as error:
        errors += _located(error, "query")
        return {}


@lru_cache(4_096)  # a service is asked with few different queries, and validating one takes 20 µs
def _parameters(model: type[BaseModel], query: bytes) -> Mapping[str, Any]:
    given: dict[str, Any] = {}
    repeatable = _repeatable(model)
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in repeatable:
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    return model.model_validate(given).model_dump(exclude_unset=True)


def read_json(
    adapter: TypeAdapter[T], body: bytes, content_type: bytes, errors: Errors, *, tagged: bool = False
) -> T | None:
    """A body that `adapter` takes. What is wrong is added to `errors`; raises RequestValidationError for no JSON.

    `tagged` says that the adapter is of a tagged union, whose tags are no part of the request.
    """
    if not body:
        errors.append({"type": "missing", "loc": ("body",), "msg": "Field required"})
        return None
    given = _parse(body) if _is_json(content_type) else body
    try:
        return adapter.validate_python(given, from_attributes=True)  # as FastAPI does: its messages say so
    except ValidationError as error:
        errors += _located(error, "body", skip=int(tagged))
        return None


def check_user(user: str, errors: Errors) -> None:
    """Add to `errors` what is wrong with an id in a path."""
    try:
        _path_id.validate_python(user)
    except ValidationError as error:
        errors += _located(error, "path", "user")


def raise_if(errors: Errors) -> None:
    """Raise RequestValidationError where something is wrong."""
    if errors:
        raise RequestValidationError(errors)


async def client_gone(receive: Receive) -> None:
    """Ends when the client has closed its connection. Its body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_answer(send: Send, body: bytes, media_type: bytes = JSON) -> None:
    """Send a whole answer of status 200."""
    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        found = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "ctx": {"error": error.msg}}
        raise RequestValidationError([found]) from error
    except (ValueError, RecursionError) as error:
        raise unreadable_json() from error


def _is_json(content_type: bytes) -> bool:
    message = EmailMessage()
    message["content-type"] = content_type.decode("latin-1")
    return message.get_content_maintype() == "application" and (
        message.get_content_subtype() == "json" or message.get_content_subtype().endswith("+json")
    )


def _located(error: ValidationError, *location: str, skip: int = 0) -> Errors:
    return [{**found, "loc": (*location, *found["loc"][skip:])} for found in error.errors(include_url=False)]


@cache
def _repeatable(model: type[BaseModel]) -> frozenset[str]:
    """Parameters that may be given several times."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if any(get_origin(kind) is tuple for kind in (field.annotation, *get_args(field.annotation)))
    )
