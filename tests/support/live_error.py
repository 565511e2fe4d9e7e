"""Ratings of many clients while workers are killed, and the live error that is computed by hand beside them."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx
import psutil

from tests.support.soak import workers_of
from tests.support.waiting import wait_until

TOLERANCE = 1e-6


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
        pairs = [(user, f"{item}x" if item % 10 == 0 else str(item)) for user in users for item in range(1, 400)]
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a service says of its live error, by source, and what was computed by hand: the errors of each source.

    `killed` is the number of workers, `repeated` that of requests that were sent again.
    """

    figures: Mapping[str, Mapping[str, float]]
    by_hand: Mapping[str, Sequence[float]]
    killed: int
    repeated: int

    def differences(self) -> list[str]:
        """Where both differ; empty if they are equal."""
        found = []
        for source, errors in self.by_hand.items():
            row = self.figures.get(source, {"ratings": 0, "rmse": math.nan, "mae": math.nan})
            squared, absolute = sum(error**2 for error in errors), sum(map(abs, errors))
            wanted = {"ratings": len(errors), "rmse": (squared / len(errors)) ** 0.5, "mae": absolute / len(errors)}
            found += [
                f"{source}: {name} {row[name]} instead of {value}"
                for name, value in wanted.items()
                if not abs(row[name] - value) <= TOLERANCE
            ]
        return found + [f"{source} is unknown here" for source in {*self.figures} - {*self.by_hand, "all"}]


def rate_and_kill(
    url: str, process: subprocess.Popen[bytes], ratings: int, clients: int, kills: int | None, pause: float
) -> Outcome:
    """Store new ratings of a model of `random_draft`, while workers are killed, after a pause each.

    `kills` of them are; None goes on until all ratings are stored. Each client stores as many ratings.
    """
    raters, killed = [Rater(url, number, ratings // clients) for number in range(clients)], 0
    for rater in raters:
        rater.start()
    while any(rater.is_alive() for rater in raters) and (kills is None or killed < kills):
        next(rater for rater in raters if rater.is_alive() or rater is raters[-1]).join(pause)
        with suppress(psutil.NoSuchProcess, IndexError):  # one may end at any moment
            workers_of(psutil.Process(process.pid))[0].send_signal(signal.SIGKILL)
            killed += 1
    for rater in raters:
        rater.join()
    by_hand: dict[str, list[float]] = defaultdict(list)
    for rater in raters:
        for source, errors in rater.errors.items():
            by_hand[source] += errors
    with httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: client.get("/quality").json()["waiting"] == 0, process)
        figures = {row["source"]: row for row in client.get("/quality").json()["figures"]}
    return Outcome(figures, by_hand, killed, sum(rater.failed for rater in raters))
