"""Uploading ratings to a service, through `POST /ratings`.

The idempotency key of a request is a digest of its ratings, so that repeating an interrupted upload does no harm.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx
import pyarrow as pa

from models.urls import explained, without_secrets
from training.data.interactions import NO_TIME, Interactions
from training.errors import SourceUnavailableError

BATCH = 10_000  # ratings; 0.6 MB of JSON
TRIES = 10
SECONDS = 120.0
PROBE_SECONDS = 10.0
NO_KEY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

log = logging.getLogger(__name__)


def upload(ratings: Interactions, url: str, key: str | None, report: Callable[[int], None], *, skip: int = 0) -> None:
    """Store all ratings but the first `skip`. `report` is called with how many are stored.

    Raises SourceUnavailableError with the reason, the rating that was refused, and how to go on.
    """
    shown = without_secrets(url).rstrip("/")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:  # only once; later, the upload waits for a service that does not answer
        httpx.get(f"{url.rstrip('/')}/health/live", timeout=PROBE_SECONDS)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise SourceUnavailableError(
            f"no service answers at {shown} ({explained(error, url)}); "
            "`python -m app` starts one, --to http://HOST:PORT names another"
        ) from error
    with httpx.Client(base_url=url, headers=headers, timeout=SECONDS) as client:
        for begin in range(skip, len(ratings), BATCH):
            stored = f"{begin:,} of {len(ratings):,} ratings are stored; --skip {begin} goes on from there"
            try:
                _send(client, url, _body(ratings, slice(begin, begin + BATCH)))
            except _RefusedError as refusal:
                place = _named(ratings, begin, refusal.position)
                raise SourceUnavailableError(f"{shown} did not accept {place}: {refusal}. {stored}") from refusal
            except KeyboardInterrupt:
                log.warning(stored)
                raise
            report(min(begin + BATCH, len(ratings)))


class _RefusedError(Exception):
    """The service refused a request; `position` is that of the rating in it that was the reason, if it said so."""

    def __init__(self, problem: str, position: int | None = None) -> None:
        super().__init__(problem)
        self.position = position


def _named(ratings: Interactions, begin: int, position: int | None) -> str:
    row = begin + (position or 0)
    user, item = ratings.user_ids[ratings.users_N[row]], ratings.item_ids[ratings.items_N[row]]
    place = f"{row + 1:,} (user {user}, item {item}, rating {ratings.ratings_N[row]:g})"
    return f"the ratings from number {place} on" if position is None else f"rating {place}"


def _body(ratings: Interactions, part: slice) -> bytes:
    columns: dict[str, Any] = {
        "users": ratings.user_ids.take(pa.array(ratings.users_N[part])).to_pylist(),
        "items": ratings.item_ids.take(pa.array(ratings.items_N[part])).to_pylist(),
        "ratings": ratings.ratings_N[part].tolist(),
    }
    if ratings.timestamps_N is not None:
        columns["timestamps"] = [0 if time == NO_TIME else time for time in ratings.timestamps_N[part].tolist()]
    return json.dumps(columns).encode()


def _send(client: httpx.Client, url: str, body: bytes) -> None:
    """Send a request until it succeeds. Retries after the time that the service asks for. Raises _RefusedError."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": hashlib.sha256(body).hexdigest()}
    problem, position = "", None
    for tried in range(TRIES):
        try:
            answer = client.post("/ratings", content=body, headers=headers)
        except httpx.HTTPError as error:
            problem, wait = f"{type(error).__name__}: {explained(error, url)}", min(2.0**tried, 10.0)
        else:
            if answer.status_code == HTTPStatus.OK:
                return
            problem, position = _detail(answer), _position(answer)
            wait = _seconds_to_wait(answer)
            if not wait:
                break
        log.warning("%s; retrying in %.0f s", problem, wait)
        time.sleep(wait)
    raise _RefusedError(problem, position)


def _seconds_to_wait(answer: httpx.Response) -> float:
    """What the answer asks for, 0 if it asks for nothing; a proxy may write a date, which is not waited for."""
    try:
        return float(answer.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0


def _position(answer: httpx.Response) -> int | None:
    """The place in the request of what was wrong, as in `body.ratings.17`."""
    try:
        return next(int(part) for part in answer.json()["errors"][0]["location"].split(".") if part.isdecimal())
    except (ValueError, KeyError, TypeError, IndexError, StopIteration, AttributeError):
        return None


def _detail(answer: httpx.Response) -> str:
    hint = " (--key, or the variable RATECAST_KEY)" if answer.status_code in NO_KEY else ""
    try:
        return f"{answer.status_code}: {answer.json()['detail']}{hint}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code}"
