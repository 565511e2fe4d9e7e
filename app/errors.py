"""From errors to answers: the one table of statuses, and the problem documents of RFC 9457.

Domain errors know no HTTP; nothing else in the service chooses a status for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.engine.errors import (
    ActivationError,
    DeadlineExceededError,
    DeviceUnavailableError,
    NotReadyError,
    OrderingUnavailableError,
    OverloadedError,
    UnknownVersionError,
)
from app.schemas import FORMS, FieldError, Problem
from models.errors import (
    CheckpointCorruptError,
    CheckpointFormatError,
    CheckpointNotFoundError,
    GoldenPairsError,
    PublicationError,
    RatecastError,
    UnknownIdError,
    UnknownItemError,
    UnknownUserError,
)

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:ratecast:problem:"
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
MAX_FIELD_ERRORS = 10


class InvalidRequestError(RatecastError):
    """A well-formed request that asks for what the service does not do. The message never echoes the input."""

    def __init__(self, location: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.location = location


class BodyTooLargeError(RatecastError):
    """A request body of more bytes than are accepted."""


class UnauthorizedError(RatecastError):
    """A request without a key that is accepted."""


class StoppingError(RatecastError):
    """The process is about to stop."""


class ClientGoneError(RatecastError):
    """A client that closed its connection before it was answered. Nobody reads this answer; metrics count it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the last part of its `type`, its status and its title."""

    name: str
    status: int
    title: str


INVALID = Kind("invalid-request", 422, "The request is not valid")
KINDS: Mapping[type[RatecastError], Kind] = {
    UnknownUserError: Kind("unknown-user", 404, "There is no such user"),
    UnknownItemError: Kind("unknown-item", 404, "There is no such item"),
    InvalidRequestError: INVALID,
    OrderingUnavailableError: Kind("ordering-unavailable", 422, "The model cannot order lists so"),
    UnauthorizedError: Kind("unauthorized", 401, "No key, or not one that is accepted"),
    BodyTooLargeError: Kind("body-too-large", 413, "The request body is too large"),
    ClientGoneError: Kind("client-gone", 499, "The client has gone"),
    OverloadedError: Kind("overloaded", 503, "Too much work is waiting"),
    DeadlineExceededError: Kind("deadline-exceeded", 504, "The answer took too long"),
    NotReadyError: Kind("not-ready", 503, "No model is being served yet"),
    UnknownVersionError: Kind("unknown-version", 404, "There is no such version"),
    ActivationError: Kind("not-activated", 409, "The version cannot be made the current one"),
    StoppingError: Kind("stopping", 503, "The service is about to stop"),
    DeviceUnavailableError: Kind("device-unavailable", 503, "The device of the model is not there"),
    CheckpointNotFoundError: Kind("checkpoint-not-found", 503, "There is no such checkpoint"),
    CheckpointCorruptError: Kind("checkpoint-corrupt", 503, "The checkpoint is damaged"),
    CheckpointFormatError: Kind("checkpoint-format", 503, "The checkpoint is of another format"),
    GoldenPairsError: Kind("golden-pairs", 503, "The model predicts something else than when it was published"),
    PublicationError: Kind("publication-failed", 500, "The checkpoint could not be published"),
}


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(RatecastError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)


def problem_response(
    status: int, title: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """A problem document of a status, by default of the type that means no more than the status does."""
    body = Problem.model_validate({"title": title or HTTPStatus(status).phrase, "status": status} | members)
    return Response(body.model_dump_json(exclude_none=True), status, headers, PROBLEM_JSON)


def answer_error(error: RatecastError) -> Response:
    """The problem document of a domain error."""
    members: dict[str, Any] = {"detail": str(error)}
    if isinstance(error, InvalidRequestError):
        members["errors"] = [FieldError(location=".".join(error.location), message=str(error))]
    if isinstance(error, UnknownIdError):
        members |= {error.kind: error.id, "position": error.position}
    return _problem_of_kind(next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), **members)


def _problem_of_kind(kind: Kind, **members: Any) -> Response:
    return problem_response(
        kind.status, kind.title, headers=HEADERS.get(kind.status), type=TYPE_PREFIX + kind.name, **members
    )


async def _domain_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, RatecastError):
        raise TypeError from error
    return answer_error(error)


async def _validation_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError from error
    errors = list(_field_errors(error))
    return _problem_of_kind(INVALID, detail=f"{errors[0].location}: {errors[0].message}", errors=errors)


def _field_errors(error: RequestValidationError) -> Iterator[FieldError]:
    for found in error.errors()[:MAX_FIELD_ERRORS]:
        yield FieldError(location=".".join(_location(found)), message=_message(found))


def _message(found: Mapping[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return f"not JSON: {found['ctx']['error']} at character {found['loc'][1]}"
    if found["type"] == "model_attributes_type":
        return "a JSON object is wanted, sent with Content-Type: application/json"
    if found["type"] == "extra_forbidden":
        return "holds a member that is not known"
    return str(found["msg"])


def _location(found: Mapping[str, Any]) -> Iterator[str]:
    """Where in the request, without names the client made up and those that pydantic gives to the forms of a body."""
    parts = found["loc"][:-1] if found["type"] in ("json_invalid", "extra_forbidden") else found["loc"]
    return (str(part) for index, part in enumerate(parts) if index != 1 or part not in FORMS)


async def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError from error
    if error.status_code == 400:  # FastAPI's answer to a body that is not text, too deep or has numbers too long
        unreadable = FieldError(location="body", message="not readable as JSON in UTF-8")
        return _problem_of_kind(INVALID, detail="body: not readable as JSON in UTF-8", errors=[unreadable])
    return problem_response(error.status_code, headers=error.headers, detail=error.detail)


async def _bug(_: Request, _error: Exception) -> Response:
    return bug_response()


def bug_response() -> Response:
    """The answer to a request that met a bug: it says nothing of it."""
    return problem_response(500, detail="the service failed to answer; its log says why")
