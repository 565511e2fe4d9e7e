"""Changes of the catalogue under load: is every answer of every worker right a second after a change was acknowledged?

    python -m benchmarks.catalogue_changes [--changes 1000] [--services 2] [--workers 4] [--clients 8] [--share 0.1]

Services on one checkpoint directory and one SQLite store answer clients while items are hidden, shown, renamed, deleted
and stored again, one after the other, through one service or the other. Clients ask for whole lists, searches, similar
items and single items. An answer is wrong if it shows a state of an item that was over, by an acknowledged change, a
second before the request was sent, or one that had not begun when the answer came. A tenth of the users is answered by
a second version; an answer is wrong too if it names another version than that of its user.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx

from models.registry.split import Split
from tests.support.drafts import publish_random
from tests.support.followed import FOLLOWED, Change, allowed
from tests.support.service import serving

USERS, ITEMS, FACTORS, SEEN = 300, 300, 16, 5
CHANGED = range(100)  # rows of the items that are changed; the others stay
ALL = f"n={ITEMS}"


class State(NamedTuple):
    """What is shown of an item; `title` is that of `GET /items/{item}`, None where it is deleted."""

    shown: bool
    title: str | None


@dataclass
class History:
    """The states of each item in their order, and what came of the answers."""

    of: dict[str, list[Change[State]]] = field(
        default_factory=lambda: {str(row): [Change(State(shown=True, title=f"Title {row}"))] for row in range(ITEMS)}
    )
    checked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # that acknowledging a change took


async def change(history: History, services: Sequence[httpx.AsyncClient], number: int) -> None:
    """Make changes one after the other, each through another service."""
    rng = random.Random(0)  # noqa: S311 - no secret
    for turn in range(number):
        service, item = services[turn % len(services)], str(rng.choice(CHANGED))
        title = history.of[item][-1].state.title
        kind = rng.choice(["hide", "show", "rename", "delete", "many"]) if title is not None else "rename"
        renamed = f"Name {turn}"
        method, path, body, state = {
            "hide": ("PATCH", f"/items/{item}", {"hidden": True}, State(shown=False, title=title)),
            "show": ("PATCH", f"/items/{item}", {"hidden": False}, State(shown=True, title=title)),
            "rename": ("PUT", f"/items/{item}", {"title": renamed}, State(shown=True, title=renamed)),
            "delete": ("DELETE", f"/items/{item}", None, State(shown=False, title=None)),
            "many": (
                "POST",
                "/items",
                {"items": [{"id": item, "title": renamed, "hidden": True}]},
                State(shown=False, title=renamed),
            ),
        }[kind]
        made = Change(state, time.perf_counter(), math.inf)
        history.of[item].append(made)
        answer = await service.request(method, path, json=body)
        answer.raise_for_status()
        made.acknowledged = time.perf_counter()
        history.seconds.append(made.acknowledged - made.begun)


async def ask(history: History, service: httpx.AsyncClient, seed: int, split: Split, current: str) -> None:
    """Ask one question after the other, and check the answers, until the task is cancelled."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    while True:
        user, item = str(rng.randrange(USERS)), str(rng.choice(CHANGED))
        kind = rng.choice(["list", "search", "similar", "item"])
        path = {
            "list": f"/users/{user}/top?{ALL}&exclude_seen=false",
            "search": f"/items?{ALL}",
            "similar": f"/items/{ITEMS - 1}/similar?{ALL}",
            "item": f"/items/{item}",
        }[kind]
        sent = time.perf_counter()
        answer = await service.get(path)
        received, body = time.perf_counter(), answer.json()
        history.checked[kind] += 1
        if kind == "item":
            title = None if answer.status_code == httpx.codes.NOT_FOUND else body["title"]
            right = title in {state.title for state in allowed(history.of[item], sent, received)}
        else:
            right = answer.is_success and is_right(history, body["items"], sent, received)
        history.wrong[kind] += not right
        if kind == "list":
            version = split.version if split.has(user) else current
            history.wrong["of another version than the user's"] += body["model_version"] != version


def is_right(history: History, shown: Sequence[dict[str, Any]], sent: float, received: float) -> bool:
    """Whether a list of all items has those that it must have, under their titles."""
    titles = {one.get("item", one.get("id")): one["title"] for one in shown}
    for item in map(str, CHANGED):
        found = item in titles
        if not any(
            state.shown == found and (not found or state.title == titles[item])
            for state in allowed(history.of[item], sent, received)
        ):
            return False
    return len(titles) == len(shown)


async def measure(urls: Sequence[str], split: Split, current: str, options: argparse.Namespace) -> History:
    """Begin the split, and make the changes under load."""
    history = History()
    services = [httpx.AsyncClient(base_url=url, timeout=60) for url in urls]
    begun = await services[0].put("/models/split", json=split._asdict())
    begun.raise_for_status()
    await asyncio.sleep(3)  # every worker has loaded the second version
    load = [
        asyncio.create_task(ask(history, services[seed % len(services)], seed, split, current))
        for seed in range(options.clients)
    ]
    await change(history, services, options.changes)
    await asyncio.sleep(2 * FOLLOWED)
    for task in load:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.wait(load)
    for service in services:
        await service.aclose()
    return history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--services", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--share", type=float, default=0.1)
    options = parser.parse_args()
    with TemporaryDirectory() as folder, ExitStack() as running:
        directory = Path(folder)
        second, first = (publish_random(directory, USERS, ITEMS, FACTORS, SEEN, seed).version for seed in range(2))
        services = [
            running.enter_context(serving(directory, "--workers", str(options.workers)))
            for _ in range(options.services)
        ]
        began = time.perf_counter()
        history = asyncio.run(
            measure([service.url for service in services], Split(second, options.share), first, options)
        )
        seconds = time.perf_counter() - began
    ranked = sorted(history.seconds)
    print(
        f"Run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores: {options.services} services of "
        f"{options.workers} workers, {options.clients} clients, {len(ranked):,} changes in {seconds:.0f} s.\n\n"
        "| asked | measured |\n|---|---|\n"
        f"| answers checked | {history.checked.total():,} ({dict(sorted(history.checked.items()))}) |\n"
        f"| wrong {FOLLOWED:g} s after a change, or of another version: 0 | {history.wrong.total()} "
        f"{dict(+history.wrong) or ''} |\n"
        f"| a change acknowledged, p50, p99 | {ranked[len(ranked) // 2] * 1e3:.0f} ms, "
        f"{ranked[int(len(ranked) * 0.99)] * 1e3:.0f} ms |"
    )


if __name__ == "__main__":
    main()
