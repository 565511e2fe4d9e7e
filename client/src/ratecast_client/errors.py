"""What goes wrong, as a small tree. A service tells its errors as problem documents (RFC 9457); each has them all.

RatecastError
├── TransportError          no answer: not reached, cut off, too slow, or not HTTP
│   └── DeadlineError       the time for all attempts together is over
├── UnexpectedAnswerError   an answer, but not one of this service
├── InvalidError            400, 413, 422, …: the request is not one that can be answered
├── UnauthorizedError       401: no key, or not one that is accepted
├── ForbiddenError          403: the key does not allow that
├── NotFoundError           404
├── ConflictError           409: it does not go with what is there
├── BusyError               come back later; `retry_after` says when
│   ├── TooManyRequestsError    429
│   └── UnavailableError        503
└── ServerError             5xx
"""

from __future__ import annotations

from collections.abc import Mapping

from ratecast_client.answers import FieldError, Problem

BLANK = "about:blank"


class RatecastError(Exception):
    """Every error of this package but those of wrong arguments.

    Attributes:
        message: one line.
        problem: what the service said, None where it said nothing.
        request_id: names the request in the logs of the service.
        retry_after: seconds after which the service wants to be asked again, None where it did not say.
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
        """The HTTP status, None where there was no answer."""
        return None if self.problem is None else self.problem.status

    @property
    def type(self) -> str:
        """A URI that names the kind of problem, `about:blank` where it is no more than the status."""
        return BLANK if self.problem is None else self.problem.type

    @property
    def title(self) -> str:
        """The kind of problem in words."""
        return self.message if self.problem is None else self.problem.title

    @property
    def detail(self) -> str:
        """This problem in words."""
        return self.message if self.problem is None else self.problem.detail

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """What is wrong with the request, part by part."""
        return () if self.problem is None else self.problem.errors or ()


class TransportError(RatecastError):
    """No answer came: the service was not reached, broke off, was too slow or does not speak HTTP."""


class DeadlineError(TransportError):
    """No answer came within the time for a request with all its attempts."""


class UnexpectedAnswerError(RatecastError):
    """An answer that is not what this service gives: of a proxy, or of another version."""


class InvalidError(RatecastError):
    """The request cannot be answered; `errors` says what is wrong with it."""


class UnauthorizedError(RatecastError):
    """No key, or not one that is accepted."""


class ForbiddenError(RatecastError):
    """The key does not allow that."""


class NotFoundError(RatecastError):
    """There is no such user, item or version."""


class ConflictError(RatecastError):
    """It does not go with what is there: a version that cannot be served, a key that was used for something else."""


class BusyError(RatecastError):
    """The service cannot answer now, and said so after each attempt."""


class TooManyRequestsError(BusyError):
    """More requests than the key allows."""


class UnavailableError(BusyError):
    """The service is not ready, has too much to do, or its ratings store is away."""


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
    """The class for a status that is not one of success."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    if 400 <= status < 500:
        return InvalidError
    return ServerError if status >= 500 else UnexpectedAnswerError
