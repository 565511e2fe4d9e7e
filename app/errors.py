"""Turns errors into answers: the one table of statuses, and the problem documents of RFC 9457.

Domain errors know no HTTP; nothing else in the service chooses a status for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.engine.errors import (
    ActivationError,
    CancelledRequestError,
    DeadlineExceededError,
    NotReadyError,
    OrderingUnavailableError,
    OverloadedError,
    SplitError,
    UnknownVersionError,
    VersionNotLoadedError,
)
from app.ratings.errors import (
    NoStoreError,
    RequestKeyError,
    StoreUnavailableError,
    StoreUnusableError,
    TooManyRatingsError,
)
from models.errors import (
    CheckpointCorruptError,
    CheckpointFormatError,
    CheckpointNotFoundError,
    ComparisonError,
    DeviceUnavailableError,
    GoldenPairsError,
    PublicationError,
    RatecastError,
    RemoteError,
    ReportNotFoundError,
    UnknownIdError,
    UnknownItemError,
    UnknownUserError,
    UnprovenVersionError,
)

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:ratecast:problem:"
CAUSE = "problem"  # in the scope of a request that was answered with one: its kind
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 415: {"Accept-Encoding": "identity"}, 503: {"Retry-After": "1"}}
MAX_FIELD_ERRORS = 10


class FieldError(BaseModel):
    """One error of a request: where (`body.users.3`, `query.n`) and what."""

    location: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). Members that do not apply are absent."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
    user: str | None = None
    item: str | None = None
    position: int | None = None


class InvalidRequestError(RatecastError):
    """A well-formed request that is not valid. The message never repeats the input."""

    def __init__(self, location: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.location = location


class BodyTooLargeError(RatecastError):
    """A request body of more bytes than are accepted."""


class EncodedBodyError(RatecastError):
    """A request body that is compressed, or encoded otherwise."""

    def __init__(self) -> None:
        super().__init__("the service does not decompress bodies: send this one without Content-Encoding")


class UndecodableTargetError(RatecastError):
    """A path or a query that is not UTF-8 when it is percent-decoded."""

    def __init__(self) -> None:
        super().__init__("the path and the query must be percent-encoded UTF-8: ü is %C3%BC")


class UnauthorizedError(RatecastError):
    """A request without a key, or with one that is not accepted."""


class ForbiddenError(RatecastError):
    """A request whose key is accepted, but does not allow this."""


class TooManyRequestsError(RatecastError):
    """A principal has exceeded the rate limit. The next request is answered after `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the rate limit of this API key is exceeded; try again in {seconds} s")
        self.seconds = seconds


class StoppingError(RatecastError):
    """The process is shutting down."""


class Kind(NamedTuple):
    """A kind of problem: the last part of its `type`, its status and its title."""

    name: str
    status: int
    title: str


INVALID = Kind("invalid-request", 422, "Invalid request")
KINDS: Mapping[type[RatecastError], Kind] = {
    UnknownUserError: Kind("unknown-user", 404, "Unknown user"),
    UnknownItemError: Kind("unknown-item", 404, "Unknown item"),
    InvalidRequestError: INVALID,
    OrderingUnavailableError: Kind("ordering-unavailable", 422, "The model does not support this order"),
    UnauthorizedError: Kind("unauthorized", 401, "The API key is missing or was not accepted"),
    ForbiddenError: Kind("forbidden", 403, "The API key does not allow this request"),
    TooManyRequestsError: Kind("too-many-requests", 429, "Too many requests"),
    UndecodableTargetError: Kind("not-utf-8", 400, "The path or the query is not UTF-8"),
    EncodedBodyError: Kind("content-encoding", 415, "The content encoding of the body is not supported"),
    BodyTooLargeError: Kind("body-too-large", 413, "The request body is too large"),
    CancelledRequestError: Kind("client-gone", 499, "The client closed the connection"),
    OverloadedError: Kind("overloaded", 503, "The service is overloaded"),
    DeadlineExceededError: Kind("deadline-exceeded", 504, "The request took too long"),
    NotReadyError: Kind("not-ready", 503, "No model is being served yet"),
    UnknownVersionError: Kind("unknown-version", 404, "Unknown version"),
    ReportNotFoundError: Kind("no-report", 404, "The version has no report"),
    UnprovenVersionError: Kind("needs-force", 409, "The version is served only by force"),
    ComparisonError: Kind("not-comparable", 409, "The versions cannot be compared"),
    VersionNotLoadedError: Kind("version-not-loaded", 404, "The version does not answer now"),
    SplitError: Kind("no-split", 409, "The users cannot be split like this"),
    ActivationError: Kind("not-activated", 409, "The version cannot be activated"),
    StoreUnavailableError: Kind("store-unavailable", 503, "The ratings store is unreachable"),
    StoreUnusableError: Kind("store-unusable", 503, "The database cannot be used as a ratings store"),
    NoStoreError: Kind("no-store", 501, "The service has no ratings store"),
    TooManyRatingsError: Kind("too-many-ratings", 422, "The user has too many ratings for one answer"),
    RequestKeyError: Kind("request-key", 409, "The idempotency key was used for another request"),
    StoppingError: Kind("stopping", 503, "The service is shutting down"),
    DeviceUnavailableError: Kind("device-unavailable", 503, "The model's device is not available"),
    CheckpointNotFoundError: Kind("checkpoint-not-found", 503, "The checkpoint does not exist"),
    CheckpointCorruptError: Kind("checkpoint-corrupt", 503, "The checkpoint is damaged"),
    CheckpointFormatError: Kind("checkpoint-format", 503, "The checkpoint has another format"),
    GoldenPairsError: Kind("golden-pairs", 503, "The predictions differ from those at publication"),
    RemoteError: Kind("store-of-models-unavailable", 503, "The registry of versions is unreachable"),
    PublicationError: Kind("publication-failed", 500, "The checkpoint could not be published"),
}


def install(app: FastAPI, routes: Sequence[Route]) -> None:
    """Answer every error with a problem document. `routes` are all routes of the service."""
    app.add_exception_handler(RatecastError, _expected_error)
    app.add_exception_handler(RequestValidationError, _expected_error)
    app.add_exception_handler(HTTPException, partial(_http_error, routes))
    app.add_exception_handler(Exception, _bug)


class ProblemResponse(Response):
    """A problem document. It puts its kind into the scope of the request, for metrics and logs."""

    def __init__(self, problem: Problem, cause: str, headers: Mapping[str, str] | None) -> None:
        super().__init__(problem.model_dump_json(exclude_none=True), problem.status, headers, PROBLEM_JSON)
        self._cause = cause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CAUSE] = self._cause
        await super().__call__(scope, receive, send)


def unreadable_json() -> RequestValidationError:
    """The error of a body that is not text, is nested too deeply or has numbers that are too long."""
    return RequestValidationError([{"type": "unreadable", "loc": ("body",), "msg": "not readable as JSON in UTF-8"}])


def body_too_large(most: int, *, of_settings: bool = True) -> BodyTooLargeError:
    """The error of a body of more bytes than `most`, which the settings say or the route."""
    bound = f"a request body has at most {most} bytes (RATECAST_MAX_BODY_BYTES)"
    return BodyTooLargeError(bound if of_settings else f"the body of this request may have at most {most} bytes")


def answer_error(error: RatecastError | RequestValidationError) -> Response:
    """The problem document of a domain error, or of what pydantic found wrong."""
    members: dict[str, Any]
    if isinstance(error, RequestValidationError):
        kind, errors = INVALID, [_field_error(found) for found in error.errors()[:MAX_FIELD_ERRORS]]
        members = {"detail": f"{errors[0].location}: {errors[0].message}", "errors": errors}
    else:
        kind, members = next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), {"detail": str(error)}
    headers = HEADERS.get(kind.status)
    match error:
        case InvalidRequestError():
            members["errors"] = [FieldError(location=".".join(error.location), message=str(error))]
        case UnknownIdError():
            members |= {error.kind: error.id, "position": error.position}
        case TooManyRequestsError():
            headers = {"Retry-After": str(error.seconds)}
    problem = Problem(type=TYPE_PREFIX + kind.name, title=kind.title, status=kind.status, **members)
    return ProblemResponse(problem, kind.name, headers)


def _problem_of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem of type `about:blank`, which means no more than its status."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return ProblemResponse(problem, f"http-{status}", headers)


async def _expected_error(_: Request, error: Exception) -> Response:
    return answer_error(cast("RatecastError | RequestValidationError", error))


def _field_error(found: Mapping[str, Any]) -> FieldError:
    """An error that pydantic found, and where in the request, without names that come from the client."""
    location, message = found["loc"], str(found["msg"])
    match found["type"]:
        case "json_invalid":
            location, message = location[:-1], f"not JSON: {found['ctx']['error']} at character {location[1]}"
        case "model_attributes_type":
            message = "the body must be a JSON object, sent with Content-Type: application/json"
    return FieldError(location=".".join(map(str, location)), message=message)


async def _http_error(routes: Sequence[Route], request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI could not read the body, for whatever reason
        reason = error.__cause__
        return answer_error(reason if isinstance(reason, RatecastError) else unreadable_json())
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names only the methods of the first route
        found = (route.methods or () for route in routes if route.path_regex.match(request.scope["path"]))
        methods = {"OPTIONS"}.union(*found)
        headers = {"Allow": ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))}
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    return _problem_of_status(error.status_code, error.detail, headers)


async def _bug(_: Request, _error: Exception) -> Response:
    return bug_response()


def bug_response() -> Response:
    """The answer to a request that met a bug. It has no details."""
    return _problem_of_status(500, "the service failed to answer; its log says why")
