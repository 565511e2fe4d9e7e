"""The errors of the client. The service describes its errors as problem documents (RFC 9457); an error carries it.

RatecastError
├── TransportError          no answer: the service was not reached, broke off, was too slow, or does not speak HTTP
│   └── DeadlineError       no attempt succeeded before the deadline
├── UnexpectedAnswerError   an answer that is not one of a Ratecast service
├── InvalidError            400, 413, 422, …: the request is invalid
├── UnauthorizedError       401: the API key is missing or was not accepted
├── ForbiddenError          403: the API key does not allow this request
├── NotFoundError           404
├── ConflictError           409: the request conflicts with the state of the service
├── BusyError               try again later; `retry_after` says when
│   ├── TooManyRequestsError    429
│   └── UnavailableError        503
└── ServerError             5xx
"""

from __future__ import annotations

from collections.abc import Mapping

from ratecast_client.types import FieldError, Problem

BLANK = "about:blank"


class RatecastError(Exception):
    """The base class of all errors of this package, except TypeError and ValueError for wrong arguments.

    Attributes:
        message: one line.
        problem: the problem document of the service, or None.
        request_id: names the request in the logs of the service.
        retry_after: seconds after which the service asks for another attempt, or None.
    """

    def __init__(
        self, message: str, problem: Problem | None = None, request_id: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, problem, request_id, retry_after)
        self.message = message
        self.problem = problem
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message

    @property
    def status(self) -> int | None:
        """The HTTP status, or None if there was no answer."""
        return None if self.problem is None else self.problem.status

    @property
    def type(self) -> str:
        """A URI that names the kind of problem; `about:blank` if only the status is known."""
        return BLANK if self.problem is None else self.problem.type

    @property
    def title(self) -> str:
        """A name for the kind of problem."""
        return self.message if self.problem is None else self.problem.title

    @property
    def detail(self) -> str:
        """What happened in this case."""
        return self.message if self.problem is None else self.problem.detail

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """The invalid parts of the request."""
        return () if self.problem is None else self.problem.errors or ()


class TransportError(RatecastError):
    """No answer arrived: the service was not reached, broke off, was too slow, or does not speak HTTP."""


class DeadlineError(TransportError):
    """No attempt of the request succeeded before the deadline."""


class UnexpectedAnswerError(RatecastError):
    """The answer is not one of a Ratecast service. A proxy may have sent it, or another version of the service."""


class InvalidError(RatecastError):
    """The request is invalid; `errors` says what is wrong with it."""


class UnauthorizedError(RatecastError):
    """The API key is missing or was not accepted."""


class ForbiddenError(RatecastError):
    """The API key does not allow this request."""


class NotFoundError(RatecastError):
    """The user, item or version does not exist."""


class ConflictError(RatecastError):
    """The request conflicts with the state of the service.

    For example, the version cannot be served, or the idempotency key was used for another request.
    """


class BusyError(RatecastError):
    """The service was busy at every attempt."""


class TooManyRequestsError(BusyError):
    """The rate limit of the API key is exceeded."""


class UnavailableError(BusyError):
    """The service is not ready or overloaded, or its ratings store is unreachable."""


class ServerError(RatecastError):
    """The service failed."""


BY_STATUS: Mapping[int, type[RatecastError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    429: TooManyRequestsError,
    503: UnavailableError,
}


def class_of(status: int) -> type[RatecastError]:
    """The error class for a status other than success."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    if 400 <= status < 500:
        return InvalidError
    return ServerError if status >= 500 else UnexpectedAnswerError
