"""Attempts, pauses and the deadline of a call, written once as generators that do no I/O.

A `Call` yields requests and receives their answers. `run_call` turns each request into attempts. A driver waits for the
pause of an attempt, sends it, and hands back an `Answer` or a `Failure`. `Client` and `AsyncClient` each have a driver.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from itertools import count
from typing import Any, TypeAlias, TypeVar

import httpx

from ratecast_client.decoding import DecodingError, decode
from ratecast_client.errors import DeadlineError, RatecastError, TransportError, class_of
from ratecast_client.types import Problem

T = TypeVar("T")

RETRIED_STATUSES = frozenset((429, 503))
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
MAX_CONNECTIONS = 16  # with 32 tasks, the pool's work for a request takes 3 ms with 16 connections, 5 ms with 32
IDLE_SECONDS = 30.0  # the service closes an idle connection after 75
SHORTEST_TIMEOUT = 0.001  # seconds; with 0, httpx would not read even what has already arrived
CONNECTION_LOST = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the service. `target` is path and query, percent-encoded.

    Attributes:
        idempotent: sending it twice has the same effect as sending it once.
        retried: it may be sent again; False for health checks.
    """

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = True
    retried: bool = True
    id: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No complete answer arrived."""

    error: Exception


Outcome: TypeAlias = Answer | Failure
Call: TypeAlias = Generator[Request, Answer, T]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Wait for `pause` seconds, then send; give up after `seconds`, or after `timeout` seconds without a byte."""

    request: Request
    pause: float
    seconds: float
    timeout: float


@dataclass(frozen=True, slots=True)
class Retries:
    """When a request is sent again after 429, 503 or a lost connection. Only idempotent requests are.

    The upper bound of the pause doubles from `first_pause` to `longest_pause` seconds. Each pause is a random part of
    it, so that clients that failed together do not come back together. The time in `Retry-After` is added in full.

    Attributes:
        attempts: how often a request is sent at most; with 1 it is never sent again.
    """

    attempts: int = 5
    first_pause: float = 0.1
    longest_pause: float = 5.0

    def pause(self, failures: int, random: float, retry_after: float | None) -> float:
        """Seconds to wait after so many failures; `random` is from 0 to 1."""
        return random * min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1)) + (retry_after or 0.0)


@dataclass(frozen=True, slots=True)
class Clock:
    """The source of time and random numbers, which tests can replace.

    Attributes:
        monotonic: seconds from an arbitrary start.
        wall_time: seconds since 1970; needed for a `Retry-After` that is a date, in an answer without a `Date`.
        random: a number from 0 to 1.
        sleep, sleep_async: wait for a number of seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall_time: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    sleep_async: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Policy:
    """Time limits of a request: `timeout` for each byte, `deadline` for everything, pauses included."""

    timeout: float
    deadline: float
    retries: Retries
    clock: Clock


def run_call(call: Call[T], policy: Policy) -> Generator[Attempt, Outcome, T]:
    """The attempts of all requests of a call. Raises RatecastError unless the call handles it."""
    try:
        request = next(call)
        while True:
            try:
                answer = yield from _attempt_until_answered(request, policy)
            except RatecastError as error:
                request = call.throw(error)
            else:
                request = call.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _attempt_until_answered(request: Request, policy: Policy) -> Generator[Attempt, Outcome, Answer]:
    """Attempts until one succeeds. Raises the error of the last."""
    clock, retries = policy.clock, policy.retries
    until = clock.monotonic() + policy.deadline
    pause = 0.0
    for failures in count(1):
        seconds = until - clock.monotonic() - pause
        outcome = yield Attempt(request, pause, seconds, min(policy.timeout, seconds))
        if isinstance(outcome, Answer) and HTTPStatus.OK <= outcome.status < HTTPStatus.MULTIPLE_CHOICES:
            return outcome
        error = _error(request, outcome, clock) if clock.monotonic() < until else _late(request, outcome, policy)
        pause = retries.pause(failures, clock.random(), error.retry_after)
        if not _may_retry(request, outcome) or failures >= retries.attempts or clock.monotonic() + pause >= until:
            raise error from (outcome.error if isinstance(outcome, Failure) else None)
    raise AssertionError("count() does not end")


def _may_retry(request: Request, outcome: Outcome) -> bool:
    """Whether another attempt is safe and may succeed."""
    if not request.retried:
        return False
    if isinstance(outcome, Answer):
        return request.idempotent and outcome.status in RETRIED_STATUSES
    return isinstance(outcome.error, NEVER_SENT) or (request.idempotent and isinstance(outcome.error, CONNECTION_LOST))


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
    return class_of(outcome.status)(message, problem, request_id, retry_after(outcome.headers, clock.wall_time()))


def _problem(answer: Answer) -> Problem:
    """The problem that the service described; for an answer of something else, only the status."""
    try:
        return decode(Problem, json.loads(answer.body))
    except (DecodingError, ValueError):
        return Problem(status=answer.status, title=_phrase(answer.status), detail="")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _name(request: Request) -> str:
    return f"{request.method} {request.target.partition('?')[0]}"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by `Retry-After`, a number or a date; None if it is missing or cannot be read."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    until = _date(text)
    if until is None:
        return None
    sent = _date(headers.get("Date", ""))  # by the same clock as Retry-After
    return max(0.0, until - (now if sent is None else sent))


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def http_options(url: str, key: str | None, verify: Any, user_agent: str) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient`. Raises ValueError for a wrong URL or key."""
    base = httpx.URL(url)
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"the URL {url!r} must begin with http:// or https:// and name a host")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ValueError("the API key has characters other than printable ASCII")
    headers = {"User-Agent": user_agent} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    limits = httpx.Limits(
        max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_SECONDS
    )
    accepted = default_certificates() if verify is True else verify
    return {"base_url": base, "headers": headers, "verify": accepted, "limits": limits}


@cache
def default_certificates() -> ssl.SSLContext:
    """The authorities that this machine trusts. Reading them takes about 30 ms, so all clients share them."""
    return httpx.create_ssl_context()


class Remaining(Mapping[str, float]):
    """The timeouts of httpx. Each is computed when its step begins, so that none exceeds the attempt's time left."""

    def __init__(self, attempt: Attempt, clock: Clock) -> None:
        self._timeout = attempt.timeout
        self._clock = clock
        self._until = clock.monotonic() + attempt.seconds

    def __getitem__(self, step: str) -> float:
        return max(SHORTEST_TIMEOUT, min(self._timeout, self._until - self._clock.monotonic()))

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "read", "write", "pool"))

    def __len__(self) -> int:
        return 4


def http_request(attempt: Attempt, clock: Clock) -> dict[str, Any]:
    """Arguments of the `request` and `stream` methods of httpx's clients."""
    request = attempt.request
    return {
        "method": request.method,
        "url": request.target,
        "content": request.body or None,
        "headers": {**request.headers, "X-Request-ID": request.id},
        "extensions": {"timeout": Remaining(attempt, clock)},
    }
