"""The largest and the most awkward requests that the limits allow, of every route, and what the service takes for them.

The requests are made from the OpenAPI document and the limits, so that a new route, or a new encoding, is among them by
itself; one with a body for which `BODIES` has no recipe is an error.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec
import psutil
import pyarrow as pa

from app.api.schemas.requests import MAX_STORED_NAMES, MAX_TITLE
from app.settings import Settings

JSON, MSGPACK, ARROW = "application/json", "application/msgpack", "application/vnd.apache.arrow.stream"
OF_HEAD = 60_000  # bytes of a target: a head has 64 kB
LOOK_SECONDS = 0.01
LIMITS = Settings(checkpoints="none")
Body = Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """A request. `statuses` are those that may answer it."""

    operation: str
    name: str
    target: str
    statuses: frozenset[int]
    body: Body | None = None
    media: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.operation.partition(" ")[0]


def cases(document: dict[str, Any], version: str) -> Iterator[Case]:
    """All requests, for a service with the default limits that serves this version of numbered users and items."""
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            operation = f"{method.upper()} {path}"
            statuses = frozenset(map(int, described["responses"])) - {500} | {503}
            targets = {kind: _target(path, described.get("parameters", []), kind, version) for kind in IDS}
            case = partial(Case, operation)
            content = described.get("requestBody", {}).get("content", {})
            for kind, target in targets.items():
                if not content:
                    yield case(f"ids: {kind}", target, statuses)
            for media in content:
                if (operation, media) not in BODIES:
                    raise LookupError(f"no recipe for the largest bodies of {operation} in {media}: see BODIES")
                for name, body in BODIES[operation, media](version).items():
                    yield case(f"{media}: {name}", targets["known"], statuses, body, media)
            if content:
                for name, (body, headers, status) in AWKWARD.items():
                    wanted = frozenset({status}) if status else statuses
                    yield case(name, targets["known"], wanted, body, headers=headers)


IDS = {"known": "1", "longest": "𝔐" * LIMITS.max_id_length}


def _target(path: str, parameters: Sequence[dict[str, Any]], kind: str, version: str) -> str:
    """The path with ids of a kind, and the query in which each parameter is as large as it may be."""
    query: list[tuple[str, str]] = []
    lists: list[str] = []
    for parameter in parameters:
        name, schema = parameter["name"], parameter["schema"]
        schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", quote(version if name == "version" else IDS[kind], safe=""))
        elif parameter["in"] == "query" and schema.get("type") == "array":
            lists.append(name)
        elif parameter["in"] == "query" and name not in ("version", "against", "model_version", "strict"):
            query.append((name, _largest(name, schema)))
    query += [("version", version) for one in parameters if (one["name"], one["in"]) == ("version", "query")]
    for name in lists:
        room = (OF_HEAD - len(path)) // len(lists)
        values = ["x" * 200 for _ in range(20)] if name in ("genre", "label") else _different(room // (len(name) + 8))
        query += [(name, value) for value in values]
    return f"{path}?{urlencode(query)}" if query else path


def _largest(name: str, schema: dict[str, Any]) -> str:
    """The largest value of a parameter of a query."""
    if name in SETTINGS:
        return str(SETTINGS[name])
    if "maximum" in schema:
        return str(schema["maximum"])
    if schema.get("type") == "boolean":
        return "true"
    if "maxLength" in schema:
        return "e" * schema["maxLength"]
    if "enum" in schema or "$ref" in schema:
        return "rating"  # the one that every model has
    raise LookupError(f"no recipe for the largest value of the parameter {name}: {schema}")


SETTINGS = {"n": LIMITS.max_list, "offset": LIMITS.max_offset, "rank_by": "rating", "year_min": 0}


def _different(count: int) -> list[str]:
    return [f"u{number}" for number in range(count)]


def _json(document: Any) -> Body:
    return lambda: json.dumps(document() if callable(document) else document).encode()


def _known(count: int, of: int = 100) -> list[str]:
    return [str(1 + number % of) for number in range(count)]


def _long(count: int) -> list[str]:
    return [f"{number:06}".ljust(LIMITS.max_id_length, "x") for number in range(count)]


def _inline() -> list[dict[str, Any]]:
    return [{"item": id_, "rating": 3} for id_ in _different(LIMITS.max_inline_ratings)]


PAIRS = LIMITS.max_pairs
LONGEST = LIMITS.max_body_bytes // (2 * LIMITS.max_id_length + 20)  # pairs of ids of the greatest length in a body


def _columns(dump: Callable[[Any], bytes]) -> dict[str, Body]:
    return {
        "most pairs": lambda: dump({"users": _known(PAIRS), "items": _known(PAIRS, 90)}),
        "longest ids": lambda: dump({"users": _long(LONGEST), "items": _long(LONGEST)}),
        "most unknown pairs": lambda: dump({"users": _different(PAIRS), "items": _different(PAIRS)}),
    }


def _predict_json(_: str) -> dict[str, Body]:
    given = _columns(lambda document: json.dumps(document).encode())
    return given | {"most ratings": _json(lambda: {"items": _different(PAIRS), "ratings": _inline()})}


def _arrow(batches: int, users: pa.Array, items: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"user": users, "item": items})
    rows = max(1, len(batch) // batches)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for start in range(0, len(batch), rows):
            writer.write_batch(batch.slice(start, rows))
    return sink.getvalue().to_pybytes()


def _predict_arrow(_: str) -> dict[str, Body]:
    def dictionary() -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(range(5_000), pa.int32()), _different(400_000))

    return {
        "most pairs": lambda: _arrow(1, pa.array(_known(PAIRS)), pa.array(_known(PAIRS, 90))),
        "batches that share a large dictionary": lambda: _arrow(5_000, dictionary(), dictionary()),
        "longest ids": lambda: _arrow(1, pa.array(_long(LONGEST)), pa.array(_long(LONGEST))),
    }


def _ratings(_: str) -> dict[str, Body]:
    def columns(users: list[str], items: list[str]) -> dict[str, Any]:
        return {"users": users, "items": items, "ratings": [3] * len(users), "timestamps": [7] * len(users)}

    return {
        "most users": _json(lambda: columns(_different(PAIRS), _known(PAIRS, 90))),
        "one user": _json(lambda: columns(["one"] * PAIRS, _different(PAIRS))),
        "longest ids": _json(lambda: columns(_long(LONGEST - 1_000), _long(LONGEST - 1_000))),
    }


def _recommend(_: str) -> dict[str, Body]:
    most = LIMITS.max_list
    return {
        "most lists": _json(lambda: {"users": _known(PAIRS), "n": 1}),
        "longest lists": _json({"users": _known(PAIRS // most), "n": most, "diversity": 1, "intervals": True}),
        "most left out": _json(lambda: {"users": _different(PAIRS), "exclude": _different(PAIRS), "n": 1}),
        "only many": _json(lambda: {"users": _known(PAIRS), "only": _different(PAIRS), "n": 1}),
        "names": _json({"users": _known(1_000), "genre": ["x" * 256] * 20, "label": ["y" * 256] * 20, "n": 1}),
        "most ratings": _json(lambda: {"ratings": _inline(), "n": most, "offset": LIMITS.max_offset}),
    }


def _one_item(_: str) -> dict[str, Body]:
    return {
        "longest title, most labels": _json({"title": "𝔐" * MAX_TITLE, "labels": _long(MAX_STORED_NAMES)}),
        "a title that is too long": _json(lambda: {"title": "x" * (LIMITS.max_body_bytes - 100)}),
        "too many labels": _json(lambda: {"labels": _different(1_000_000)}),
    }


def _items(_: str) -> dict[str, Body]:
    return {
        "most items": _json(lambda: {"items": [{"item": id_, "title": id_} for id_ in _different(PAIRS)]}),
        "many labels": _json(
            lambda: {"items": [{"item": id_, "labels": _different(50)} for id_ in _different(30_000)]}
        ),
    }


BODIES: dict[tuple[str, str], Callable[[str], dict[str, Body]]] = {
    ("POST /predict", JSON): _predict_json,
    ("POST /predict", MSGPACK): lambda _: _columns(msgspec.msgpack.encode),
    ("POST /predict", ARROW): _predict_arrow,
    ("POST /recommend", JSON): _recommend,
    ("POST /ratings", JSON): _ratings,
    ("PUT /users/{user}/ratings/{item}", JSON): lambda _: {"a rating": _json({"rating": 3, "timestamp": 7})},
    ("POST /items", JSON): _items,
    ("PUT /items/{item}", JSON): _one_item,
    ("PATCH /items/{item}", JSON): _one_item,
    ("PUT /models/split", JSON): lambda version: {"a split": _json({"version": version, "share": 0.5})},
}


def _filled(begin: bytes, part: bytes, end: bytes) -> Body:
    return lambda: begin + part * ((LIMITS.max_body_bytes - len(begin) - len(end)) // len(part)) + end


AWKWARD: dict[str, tuple[Body, dict[str, str], int | None]] = {
    "objects": (_filled(b'{"users":[', b"{},", b"{}]}"), {}, None),
    "numbers": (_filled(b'{"items":[', b"1,", b"1]}"), {}, None),
    "members": (_filled(b"{", b'"a":1,', b'"a":1}'), {}, None),
    "depth": (_filled(b"", b"[", b""), {}, None),
    "a string": (_filled(b'{"title":"', b"\\\\", b'"}'), {}, None),
    "too large": (lambda: b" " * (LIMITS.max_body_bytes + 1), {}, 413),
    "gzip": (lambda: gzip.compress(bytes(16 << 20)), {"Content-Encoding": "gzip"}, 415),
}


@dataclass(slots=True)
class Cost:
    """What some requests took.

    Attributes:
        grown: bytes by which the resident memory of the service grew at most.
        statuses: of the answers.
        others: seconds that each request of others to `/health/live` took meanwhile.
        wrong: answers to others that were not as before.
    """

    seconds: float = 0.0
    grown: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    others: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def p99(self) -> float:
        return sorted(self.others)[int(0.99 * (len(self.others) - 1))] if self.others else 0.0


class Bystander:
    """Somebody else, who goes on to ask the same, and knows the answers."""

    ASKED = ("/users/2/top?n=5&rank_by=rating", "/items/3/similar?n=3")

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=100)
        self._known = [self._ask(path) for path in self.ASKED]

    def close(self) -> None:
        self._client.close()

    def _ask(self, path: str) -> Any:
        answer = self._client.get(path)
        document = answer.json()
        document.pop("model_version", None)
        return None if answer.status_code in (503, 504) else document

    def watch(self, cost: Cost, done: threading.Event) -> None:
        while not done.wait(LOOK_SECONDS):
            began = time.monotonic()
            alive = self._client.get("/health/live").status_code
            cost.others.append(time.monotonic() - began)
            if alive != 200:
                cost.wrong.append(f"/health/live: {alive}")
            for path, known in zip(self.ASKED, self._known, strict=True):
                if (found := self._ask(path)) not in (None, known):
                    cost.wrong.append(f"{path}: {found}")


@contextmanager
def watched(process: psutil.Process, bystander: Bystander) -> Iterator[Cost]:
    """What is asked within the block is counted in the cost."""
    cost, done, before = Cost(), threading.Event(), process.memory_info().rss

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            cost.grown = max(cost.grown, process.memory_info().rss - before)

    threads = [threading.Thread(target=look), threading.Thread(target=bystander.watch, args=(cost, done))]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    try:
        yield cost
    finally:
        cost.seconds = time.monotonic() - began
        done.set()
        for thread in threads:
            thread.join()


def ask(url: str, case: Case, times: int, process: psutil.Process, bystander: Bystander) -> Cost:
    """Send a request so many times at once."""
    body = None if case.body is None else case.body()
    headers = case.headers if body is None else {"Content-Type": case.media} | case.headers
    barrier = threading.Barrier(times)

    def send(client: httpx.Client) -> int:
        barrier.wait()
        with client:
            return client.request(case.method, url + case.target, content=body, headers=headers).status_code

    clients = [httpx.Client(timeout=100) for _ in range(times)]
    with ThreadPoolExecutor(times) as pool, watched(process, bystander) as cost:
        cost.statuses.update(pool.map(send, clients))
    return cost
