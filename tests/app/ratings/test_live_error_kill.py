"""The live error of two workers, one of which is killed again and again, equals the one that is computed by hand."""

from __future__ import annotations

import math
import random
import signal
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from models.registry.directory import publish
from tests.support.drafts import random_draft
from tests.support.service import Start
from tests.support.waiting import wait_until

RATINGS, CLIENTS, KILLS = 600, 3, 2


class Rater(threading.Thread):
    """Asks for a prediction and then stores the rating, for users of its own, until each is acknowledged."""

    def __init__(self, url: str, number: int, ratings: int) -> None:
        super().__init__()
        self.url, self.number, self.ratings = url, number, ratings
        self.errors: dict[str, list[float]] = defaultdict(list)
        self.failed = 0

    def run(self) -> None:
        rng = random.Random(self.number)
        users = [str(user) for user in range(1 + self.number * 40, 20 + self.number * 40)] + [f"new{self.number}"]
        pairs = [(user, f"{item}x" if item % 10 == 0 else str(item)) for user in users for item in range(1, 200)]
        rng.shuffle(pairs)
        with httpx.Client(base_url=self.url, timeout=30) as self.client:
            trained = {
                user: {one["item"] for one in self.ask("GET", f"/users/{user}/ratings")["ratings"]} for user in users
            }
            fresh = [(user, item) for user, item in pairs if item not in trained[user]][: self.ratings]
            for at in range(0, len(fresh), 5):
                for user, item in fresh[at : at + 3]:
                    rating = rng.randint(1, 5)
                    self.note({"users": [user], "items": [item]}, [rating])
                    self.ask("PUT", f"/users/{user}/ratings/{item}", json={"rating": rating})
                if bulk := fresh[at + 3 : at + 5]:
                    columns = {"users": [user for user, _ in bulk], "items": [item for _, item in bulk]}
                    ratings = [rng.randint(1, 5) for _ in bulk]
                    self.note(columns, ratings)
                    self.ask("POST", "/ratings", json=columns | {"ratings": ratings})

    def note(self, columns: dict[str, list[str]], ratings: list[int]) -> None:
        found = self.ask("POST", "/predict", json=columns)
        for source, predicted, rating in zip(found["sources"], found["ratings"], ratings, strict=True):
            self.errors[source if source in ("model", "fold_in") else "unknown"].append(predicted - rating)

    def ask(self, method: str, path: str, json: object = None) -> dict:
        while True:
            with suppress(httpx.TransportError):
                answer = self.client.request(method, path, json=json)
                if answer.status_code == 200:
                    return dict(answer.json())
            self.failed += 1


def is_worker(process: psutil.Process) -> bool:
    """Whether it is alive, and a worker of the service."""
    return process.status() != psutil.STATUS_ZOMBIE and "spawn" in " ".join(process.cmdline())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_lose_nothing_and_count_nothing_twice(start: Start, tmp_path: Path) -> None:
    publish(tmp_path, random_draft(seed=0))
    with start(tmp_path, "--workers", "2") as (client, process):
        raters = [Rater(str(client.base_url), number, RATINGS // CLIENTS) for number in range(CLIENTS)]
        for rater in raters:
            rater.start()
        for _ in range(KILLS):
            raters[0].join(3)
            with suppress(psutil.NoSuchProcess, IndexError):  # one may end at any moment
                workers = [child for child in psutil.Process(process.pid).children() if is_worker(child)]
                workers[0].send_signal(signal.SIGKILL)
        for rater in raters:
            rater.join()
        wait_until(lambda: client.get("/quality").json()["waiting"] == 0, process)
        figures = {row["source"]: row for row in client.get("/quality").json()["figures"]}
    by_hand: dict[str, list[float]] = defaultdict(list)
    for rater in raters:
        for source, errors in rater.errors.items():
            by_hand[source] += errors
    assert {source: len(errors) for source, errors in by_hand.items()} == {
        source: row["ratings"] for source, row in figures.items() if source != "all"
    }
    for source, errors in by_hand.items():
        assert figures[source]["rmse"] == pytest.approx(
            math.sqrt(sum(error**2 for error in errors) / len(errors)), abs=1e-6
        )
        assert figures[source]["mae"] == pytest.approx(sum(map(abs, errors)) / len(errors), abs=1e-6)
    assert figures["all"]["ratings"] == RATINGS
