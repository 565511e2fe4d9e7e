"""Load whose every answer is checked against the version of the model that it names.

A pool of keep-alive connections sends pairs, columns and lists in turn. What each version answers is worked out
beforehand, by the formula in float64 from the checkpoint's tables. Where users are split, the version must be that of
the users; where items are hidden and shown, lists must follow.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from models.registry.directory import load
from models.registry.split import Split, is_of
from tests.support.followed import Change, allowed

CONNECTIONS = 32
PAIRS, COLUMNS, LISTS = 300, 30, 60  # different requests of each kind
LENGTH, NEAR = 10, 20  # items of a list, and items that may come near it
TOLERANCE = 1e-4
SETTLE_SECONDS = 60.0  # every worker may have been killed, and another takes some seconds to start
LOWEST, HIGHEST = 1.0, 5.0  # the scale of `publish_random`
CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as bytes, and the rows it is about: pairs, or one user's list."""

    request: bytes
    users: Sequence[int]
    items: Sequence[int] | None


class Truth:
    """What each version answers, from its tables in float64.

    `split` is of one of the versions, and `hidden` has the changes of the items that are hidden and shown, by id.
    """

    def __init__(
        self,
        directory: Path,
        versions: Sequence[str],
        asked: Sequence[Asked],
        split: Split | None = None,
        hidden: Mapping[str, Sequence[Change[bool]]] | None = None,
    ) -> None:
        self._hidden = hidden or {}
        near = NEAR + len(self._hidden)
        self._answers = {version: _answers(directory, version, asked, near) for version in versions}
        self._split = split
        self._in_split = [split is not None and all(split.has(str(user)) for user in one.users) for one in asked]

    def wrong(self, number: int, body: Mapping[str, Any], sent: float, received: float) -> bool:
        """Whether an answer to the request of this number is not what the version that it names says.

        So is one that names another version than that of the users.
        """
        answer = self._answers.get(body["model_version"])
        if answer is None or is_of(self._split, body["model_version"]) != self._in_split[number]:
            return True
        listed = body.get("items")
        if listed is None:
            return _differ(body.get("ratings", [body.get("rating")]), answer[number].ratings)
        scores, shown = answer[number].scores, {item["item"] for item in listed}
        states = {item: {*allowed(self._hidden.get(item, ()), sent, received)} or {False} for item in scores}
        if any((item in shown) and False not in found for item, found in states.items()):
            return True  # it is hidden
        there = [score for item, score in scores.items() if item in shown or True not in states[item]]
        try:
            found = [scores[item["item"]] for item in listed]
        except KeyError:
            return True
        given = [item["rating"] for item in listed]
        return _differ(found, sorted(there)[: -LENGTH - 1 : -1]) or _differ(given, np.clip(found, LOWEST, HIGHEST))


class _Answer(NamedTuple):
    """Ratings of pairs, or the scores of a user's best items, and of more than can be in a list."""

    ratings: list[float]
    scores: Mapping[str, float]


def _differ(found: Sequence[float], wanted: Sequence[float]) -> bool:
    return len(found) != len(wanted) or float(np.abs(np.subtract(found, wanted)).max(initial=0)) > TOLERANCE


def _answers(directory: Path, version: str, asked: Sequence[Asked], near_items: int) -> list[_Answer]:
    """Of items whose scores are closer than float32 can tell, either may come first: lists are compared by scores."""
    loaded = load(directory, version)
    model = loaded.model
    p_UF, q_IF = model.user_factors.double().numpy(), model.item_factors.double().numpy()
    b_U, b_I, mean = model.user_bias.double().numpy(), model.item_bias.double().numpy(), float(model.mean)
    answers = []
    for one in asked:
        users = np.array(one.users)
        if one.items is not None:
            items = np.array(one.items)
            ratings = (p_UF[users] * q_IF[items]).sum(1) + b_U[users] + b_I[items] + mean
            answers.append(_Answer(np.clip(ratings, LOWEST, HIGHEST).tolist(), {}))
            continue
        (user,) = one.users
        scores_I = q_IF[:-1] @ p_UF[user] + b_I[:-1] + b_U[user] + mean
        scores_I[loaded.seen.of(user).numpy()] = -np.inf
        near = np.argsort(-scores_I, kind="stable")[:near_items]
        answers.append(_Answer([], {str(item): float(scores_I[item]) for item in near}))
    return answers


@dataclass
class Record:
    """What came back; times are of `time.perf_counter`.

    Attributes:
        answered: answers with status 200.
        wrong: those of them that are not what the version they name says.
        failures: when, on which local port, and what.
        due, took: of each answer, when its request was due and the seconds from then.
        last_named: when each version answered last.
    """

    answered: int = 0
    wrong: int = 0
    failures: list[tuple[float, int, str]] = field(default_factory=list)
    due: array[float] = field(default_factory=lambda: array("d"))
    took: array[float] = field(default_factory=lambda: array("d"))
    last_named: dict[str, float] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One keep-alive connection; it comes back when it is lost."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._pending: tuple[int, float] | None = None
        self._sent = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port = transport.get_extra_info("sockname")[1]
        self._load.free(self)

    def send(self, number: int, due: float) -> None:
        self._pending, self._received, self._sent = (number, due), b"", time.perf_counter()
        self._transport.write(self._load.asked[number].request)

    def leave(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(self._received, 0, head) if head >= 0 else None
        if length is None or len(self._received) < head + 4 + int(length[1]):
            return
        assert self._pending is not None
        (number, due), self._pending = self._pending, None
        status, body = self._received[9:12], self._received[head + 4 :]
        self._load.answered(number, due, self._sent, status, body, self._port)
        if b"connection: close" in self._received[:head].lower():
            self._transport.close()
        else:
            self._load.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.lost(self, self._port, under_way=self._pending is not None)


class Load:
    """Sends requests in turn over a pool of connections, and checks what comes back."""

    def __init__(self, port: int, asked: Sequence[Asked], truth: Truth) -> None:
        self.asked, self.record = asked, Record()
        self._port, self._truth = port, truth
        self.host = "127.0.0.1"
        self._free: deque[Connection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()
        self._number = 0
        self._under_way = 0
        self._stopped = False
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        for _ in range(CONNECTIONS):
            await self._connect()

    async def run(self, seconds: float, rate: float | None = None) -> float:
        """Send for so long, at a rate or as fast as answers come. Gives the answers a second."""
        start, before, sent = time.perf_counter(), self.record.answered, 0
        while not self._stopped and (elapsed := time.perf_counter() - start) < seconds:
            if rate is None:
                while self._free:
                    self._send(time.perf_counter())
            else:
                for number in range(sent, sent := int(elapsed * rate)):
                    self._send(start + number / rate)
            await asyncio.sleep(0.0005)
        return (self.record.answered - before) / seconds

    async def settle(self) -> None:
        """Send no more, wait for what is under way, and leave."""
        self._stopped = True
        self._waiting.clear()
        deadline = time.perf_counter() + SETTLE_SECONDS
        while self._under_way and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        while self._free:
            self._free.popleft().leave()
        await asyncio.sleep(0.01)

    def _send(self, due: float) -> None:
        self._number = (self._number + 1) % len(self.asked)
        if self._free:
            self._under_way += 1
            self._free.popleft().send(self._number, due)
        else:
            self._waiting.append((self._number, due))

    def free(self, connection: Connection) -> None:
        if self._waiting:
            self._under_way += 1
            connection.send(*self._waiting.popleft())
        else:
            self._free.append(connection)

    def answered(self, number: int, due: float, sent: float, status: bytes, body: bytes, port: int) -> None:
        now = time.perf_counter()
        self._under_way -= 1
        if status != b"200":
            self.record.failures.append((now, port, f"{status.decode()} {body[:200]!r}"))
            return
        answer = json.loads(body)
        self.record.answered += 1
        self.record.wrong += self._truth.wrong(number, answer, sent, now)
        self.record.last_named[answer["model_version"]] = now
        self.record.due.append(due)
        self.record.took.append(now - due)

    def lost(self, connection: Connection, port: int, *, under_way: bool) -> None:
        if under_way:
            self._under_way -= 1
            self.record.failures.append((time.perf_counter(), port, "connection lost"))
        with suppress(ValueError):
            self._free.remove(connection)
        task = asyncio.ensure_future(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopped:
            with suppress(OSError):
                await loop.create_connection(lambda: Connection(self), self.host, self._port)
                return
            await asyncio.sleep(0.1)


def requests(users: int, items: int) -> list[Asked]:
    """Pairs, columns and lists, mixed, for ids from 0 on."""
    rng = np.random.default_rng(0)
    asked = []
    for length in [1] * PAIRS + [20] * COLUMNS:
        some_users, some_items = rng.integers(users, size=length).tolist(), rng.integers(items, size=length).tolist()
        asked.append(Asked(_post([*map(str, some_users)], [*map(str, some_items)]), some_users, some_items))
    for user in rng.integers(users, size=LISTS).tolist():
        asked.append(Asked(f"GET /users/{user}/top HTTP/1.1\r\nHost: soak\r\n\r\n".encode(), [user], None))  # noqa: PERF401
    return [asked[number] for number in rng.permutation(len(asked))]


def _post(users: list[str], items: list[str]) -> bytes:
    one = len(users) == 1
    content = json.dumps({"user": users[0], "item": items[0]} if one else {"users": users, "items": items}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content
