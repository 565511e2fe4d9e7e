"""How a call becomes answers: attempts, pauses, the deadline. Written once, as generators that do no I/O themselves.

A `Call` yields requests and is sent the answers. `converse` makes attempts of them: a driver waits as each says, sends
it, and hands back an `Answer` or a `Failure`. There is one driver for blocking code and one for asyncio.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any, TypeAlias, TypeVar

import httpx

from ratecast_client.answers import Problem
from ratecast_client.decoding import MismatchError, decode
from ratecast_client.errors import DeadlineError, RatecastError, TransportError, class_of

T = TypeVar("T")

REPEATED_STATUSES = frozenset((429, 503))
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
MOST_CONNECTIONS = 16  # the pool's work for a request grows with them: 3 ms with 16 and 32 tasks, 5 ms with 32 and 32
IDLE_SECONDS = 30.0  # services close a connection after 75
SOON = 0.001  # seconds; 0 would mean not to wait for what is there
BROKEN_OFF = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `target` is path and query, percent-encoded.

    Attributes:
        repeatable: whether sending it twice does no more than sending it once.
        patient: whether it is sent again at all; a question for the state of the service is not.
    """

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    patient: bool = True
    id: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing whole came back."""

    error: Exception


Outcome: TypeAlias = Answer | Failure
Call: TypeAlias = Generator[Request, Answer, T]


@dataclass(frozen=True, slots=True)
class Attempt:
    """To wait for `pause` seconds, then to send, giving up after `seconds`, or `silence` seconds without a byte."""

    request: Request
    pause: float
    seconds: float
    silence: float


@dataclass(frozen=True, slots=True)
class Retries:
    """When a request is sent again after 429, 503 or a connection that broke: only one that may be sent twice.

    The pauses double from `first_pause` to `longest_pause` seconds, and each is drawn at random below that, so that
    clients who failed together do not come back together. What `Retry-After` asks for is waited in full besides.

    Attributes:
        attempts: how often a request is sent at most; 1 is never again.
    """

    attempts: int = 5
    first_pause: float = 0.1
    longest_pause: float = 5.0

    def pause(self, failures: int, drawn: float, retry_after: float | None) -> float:
        """Seconds after so many failures; `drawn` is from 0 to 1."""
        return drawn * min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1)) + (retry_after or 0.0)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, as arguments.

    Attributes:
        now: seconds from any start.
        today: seconds since 1970, for a `Retry-After` that is a date, of an answer without one.
        drawn: a number from 0 to 1.
        sleep, sleep_async: wait for so many seconds.
    """

    now: Callable[[], float] = time.monotonic
    today: Callable[[], float] = time.time
    drawn: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Policy:
    """How long is waited for a request: `silence` for each byte, `deadline` for everything, pauses included."""

    silence: float
    deadline: float
    retries: Retries
    clock: Clock


def converse(call: Call[T], policy: Policy) -> Generator[Attempt, Outcome, T]:
    """Everything that a call asks, as attempts. Raises RatecastError, unless the call has a use for it."""
    try:
        request = next(call)
        while True:
            try:
                answer = yield from _persist(request, policy)
            except RatecastError as error:
                request = call.throw(error)
            else:
                request = call.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _persist(request: Request, policy: Policy) -> Generator[Attempt, Outcome, Answer]:
    """Attempts until one is answered. Raises the error of the last."""
    clock, retries = policy.clock, policy.retries
    until = clock.now() + policy.deadline
    pause = 0.0
    for failures in count(1):
        seconds = until - clock.now() - pause
        outcome = yield Attempt(request, pause, seconds, min(policy.silence, seconds))
        if isinstance(outcome, Answer) and HTTPStatus.OK <= outcome.status < HTTPStatus.MULTIPLE_CHOICES:
            return outcome
        error = _error(request, outcome, clock) if clock.now() < until else _late(request, outcome, policy)
        pause = retries.pause(failures, clock.drawn(), error.retry_after)
        if not _may_repeat(request, outcome) or failures >= retries.attempts or clock.now() + pause >= until:
            raise error from (outcome.error if isinstance(outcome, Failure) else None)
    raise AssertionError("count() does not end")


def _may_repeat(request: Request, outcome: Outcome) -> bool:
    """Whether another attempt can do no harm and may help."""
    if not request.patient:
        return False
    if isinstance(outcome, Answer):
        return request.repeatable and outcome.status in REPEATED_STATUSES
    return isinstance(outcome.error, NEVER_SENT) or (request.repeatable and isinstance(outcome.error, BROKEN_OFF))


def _late(request: Request, outcome: Outcome, policy: Policy) -> RatecastError:
    if isinstance(outcome, Answer):
        return _error(request, outcome, policy.clock)
    message = f"{_name(request)}: no answer within {policy.deadline:g} s"
    return DeadlineError(message, request_id=request.id)


def _error(request: Request, outcome: Outcome, clock: Clock) -> RatecastError:
    if isinstance(outcome, Failure):
        reason = str(outcome.error) or type(outcome.error).__name__
        return TransportError(f"{_name(request)}: {reason}", request_id=request.id)
    problem = _problem(outcome)
    request_id = outcome.headers.get("X-Request-ID", request.id)
    message = f"{_name(request)}: {problem.status} {problem.title}: {problem.detail}".removesuffix(": ")
    return class_of(outcome.status)(message, problem, request_id, retry_after(outcome.headers, clock.today()))


def _problem(answer: Answer) -> Problem:
    """What the service said; of an answer that is none of its own, no more than the status."""
    try:
        return decode(Problem, json.loads(answer.body))
    except (MismatchError, ValueError):
        return Problem(status=answer.status, title=_phrase(answer.status), detail="")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _name(request: Request) -> str:
    return f"{request.method} {request.target.partition('?')[0]}"


def retry_after(headers: Mapping[str, str], today: float) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as a date; None without it, or where it is neither."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    wanted = _date(text)
    if wanted is None:
        return None
    sent = _date(headers.get("Date", ""))  # by the clock of the one who set it
    return max(0.0, wanted - (today if sent is None else sent))


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def http_options(url: str, key: str | None, verify: Any, user_agent: str) -> dict[str, Any]:
    """Arguments of `httpx.Client` and of `httpx.AsyncClient`. Raises ValueError for a URL of another kind."""
    base = httpx.URL(url)
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"an http:// or https:// URL is wanted, not {url!r}")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ValueError("a key consists of printable ASCII characters")
    headers = {"User-Agent": user_agent} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    limits = httpx.Limits(
        max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS, keepalive_expiry=IDLE_SECONDS
    )
    return {"base_url": base, "headers": headers, "verify": verify, "limits": limits}


class Remaining(Mapping[str, float]):
    """The timeouts of httpx, asked for when a step begins: none is longer than what is left for the attempt."""

    def __init__(self, attempt: Attempt, clock: Clock) -> None:
        self._silence = attempt.silence
        self._clock = clock
        self._until = clock.now() + attempt.seconds

    def __getitem__(self, step: str) -> float:
        return max(SOON, min(self._silence, self._until - self._clock.now()))

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "read", "write", "pool"))

    def __len__(self) -> int:
        return 4


def http_request(attempt: Attempt, clock: Clock) -> dict[str, Any]:
    """Arguments of `request` and `stream` of either."""
    request = attempt.request
    return {
        "method": request.method,
        "url": request.target,
        "content": request.body or None,
        "headers": {**request.headers, "X-Request-ID": request.id},
        "extensions": {"timeout": Remaining(attempt, clock)},
    }
