"""Uploading ratings or items to a service, in requests of many.

The idempotency key of a request is a digest of its content, so that repeating an interrupted upload does no harm.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, TypeAlias

import httpx
import pyarrow as pa

from models.errors import InterruptedHalfWay
from models.urls import explained, without_secrets
from training.data.interactions import NO_TIME, Interactions
from training.errors import SourceUnavailableError

PATIENCE = 300.0  # seconds for which a request is sent again: a database that fails over takes half a minute
MAX_PAUSE = 10.0
SECONDS = 120.0
PROBE_SECONDS = 10.0
NO_KEY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings, for `POST /ratings`.

    Attributes:
        kind, path, batch: what the rows are, the path of the requests, and how many rows a request has.
        salt: of the idempotency keys; requests of one key are carried out once.
    """

    kind: ClassVar[str] = "ratings"
    path: ClassVar[str] = "/ratings"
    batch: ClassVar[int] = 10_000  # 0.6 MB of JSON
    ratings: Interactions
    salt: bytes = b""

    def __len__(self) -> int:
        return len(self.ratings)

    def body(self, part: slice) -> Any:
        """The JSON of a request for some rows."""
        ratings = self.ratings
        columns: dict[str, Any] = {
            "users": ratings.user_ids.take(pa.array(ratings.users_N[part])).to_pylist(),
            "items": ratings.item_ids.take(pa.array(ratings.items_N[part])).to_pylist(),
            "ratings": ratings.ratings_N[part].tolist(),
        }
        if ratings.timestamps_N is not None:
            columns["timestamps"] = [None if time == NO_TIME else time for time in ratings.timestamps_N[part].tolist()]
        return columns

    def named(self, row: int) -> str:
        """What tells a row from others, for messages."""
        ratings = self.ratings
        user, item = ratings.user_ids[ratings.users_N[row]], ratings.item_ids[ratings.items_N[row]]
        return f"user {user}, item {item}, rating {ratings.ratings_N[row]:g}"


@dataclass(frozen=True, slots=True)
class Items:
    """A catalogue as `training.data.described.read_items` gives it, for `POST /items`. Attributes as of `Ratings`.

    Each upload has keys of its own: between two of one file the items may have been changed.
    """

    kind: ClassVar[str] = "items"
    path: ClassVar[str] = "/items"
    batch: ClassVar[int] = 5_000  # 0.7 MB of JSON without labels
    table: pa.Table
    salt: bytes = field(default_factory=partial(secrets.token_bytes, 16))

    def __len__(self) -> int:
        return len(self.table)

    def body(self, part: slice) -> Any:
        rows = self.table.slice(part.start, part.stop - part.start).rename_columns({"id": "item"}).to_pylist()
        return {"items": [{name: value for name, value in row.items() if value is not None} for row in rows]}

    def named(self, row: int) -> str:
        return f"item {self.table['id'][row]}"


Content: TypeAlias = Ratings | Items


def upload(content: Content, url: str, key: str | None, report: Callable[[int], None], *, skip: int = 0) -> None:
    """Store all rows but the first `skip`. `report` is called with how many are stored.

    Raises SourceUnavailableError with the reason, the row that was refused, and how to go on, and InterruptedHalfWay
    with the latter.
    """
    shown, number = without_secrets(url).rstrip("/"), len(content)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:  # only once; later, the upload waits for a service that does not answer
        httpx.get(f"{url.rstrip('/')}/health/live", timeout=PROBE_SECONDS)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise SourceUnavailableError(
            f"no service answers at {shown} ({explained(error, url)}); "
            "`ratecast serve` starts one, --to http://HOST:PORT names another"
        ) from error
    with httpx.Client(base_url=url, headers=headers, timeout=SECONDS) as client:
        for begin in range(skip, number, content.batch):
            done, end = begin, min(begin + content.batch, number)
            try:
                body = json.dumps(content.body(slice(begin, end))).encode()
                _send(client, url, content.path, body, hashlib.sha256(content.salt + body).hexdigest())
                done = end
                report(done)
            except _RefusedError as refusal:
                place = _place(content, begin, refusal.position)
                raise SourceUnavailableError(
                    f"{shown} did not accept {place}: {refusal}. {_stored(content, done)}"
                ) from refusal
            except KeyboardInterrupt as interrupt:  # this request may be stored too; to send it again does no harm
                raise InterruptedHalfWay(_stored(content, done)) from interrupt


class _RefusedError(Exception):
    """The service refused a request; `position` is that of the row in it that was the reason, if it said so."""

    def __init__(self, problem: str, position: int | None = None) -> None:
        super().__init__(problem)
        self.position = position


def _stored(content: Content, done: int) -> str:
    return f"{done:,} of {len(content):,} {content.kind} are stored; --skip {done} goes on from there"


def _place(content: Content, begin: int, position: int | None) -> str:
    row = begin + (position or 0)
    place = f"{row + 1:,} ({content.named(row)})"
    return f"the {content.kind} from number {place} on" if position is None else f"{content.kind[:-1]} {place}"


def _send(client: httpx.Client, url: str, path: str, body: bytes, key: str) -> None:
    """Send a request until it succeeds, again after a growing pause, at least the one that the service asks for.

    Raises _RefusedError for one that is refused for good, or that does not succeed within `PATIENCE`.
    """
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    began, pause = time.monotonic(), 1.0
    while True:
        position = None
        try:
            answer = client.post(path, content=body, headers=headers)
        except httpx.HTTPError as error:
            problem, wait = f"{type(error).__name__}: {explained(error, url)}", pause
        else:
            if answer.status_code == HTTPStatus.OK:
                return
            problem, position = _detail(answer), _position(answer)
            asked = _seconds_to_wait(answer)
            wait = max(asked, pause) if asked else math.inf
        if time.monotonic() + wait > began + PATIENCE:
            raise _RefusedError(problem, position)
        log.warning("%s; retrying in %.0f s", problem, wait)
        time.sleep(wait)
        pause = min(2 * pause, MAX_PAUSE)


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
