"""Whatever happens to the database of the store: requests are answered or refused; then all works, and all is there."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from app.ratings.schema import address
from tests.support.forks import Finished, Nursery
from tests.support.outages import POSTGRESQL, SQLITE, Outage
from tests.support.ports import held_port
from tests.support.service import Service, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LASTS = 3.0  # seconds: longer than a request waits for the database
SOON = 30.0  # seconds after it is over, in which all has to work; on an idle machine it takes 1 to 6
ITEMS = [str(number) for number in range(1, 101)]
MODULES = "training.job", "training.upload"
Ratings = dict[tuple[str, str], set[float | None]]


class Client:
    """Sends one kind of change after the other, and knows what may be stored: of what was refused, either."""

    def __init__(self, name: str, url: str) -> None:
        self.possible: Ratings = {}
        self.erased: set[str] = set()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.url = url
        self._name, self._random, self._user = name, random.Random(name), 0
        self.http = httpx.Client(base_url=url, timeout=60)
        self.kinds = (self.put, self.put_many, self.delete, self.erase, self.read)

    def act(self) -> bool:
        """One change or question. Whether it was answered."""
        return self._random.choice(self.kinds)()

    def put(self) -> bool:
        user, item, rating = self._some_user(), self._random.choice(ITEMS), float(self._random.randint(1, 5))
        done = self._send("PUT", f"/users/{user}/ratings/{item}", {"rating": rating})
        self._note({(user, item): rating}, done)
        return done

    def put_many(self) -> bool:
        users = [self._some_user() for _ in range(20)]
        pairs = {(user, self._random.choice(ITEMS)): float(self._random.randint(1, 5)) for user in users}
        body = {"users": [user for user, _ in pairs], "items": [item for _, item in pairs]}
        done = self._send("POST", "/ratings", body | {"ratings": list(pairs.values())})
        self._note(pairs, done)
        return done

    def delete(self) -> bool:
        user, item = self._some_user(), self._random.choice(ITEMS)
        done = self._send("DELETE", f"/users/{user}/ratings/{item}")
        self._note({(user, item): None}, done)
        return done

    def erase(self) -> bool:
        user = self._some_user()
        done = self._send("DELETE", f"/users/{user}")
        self._note(dict.fromkeys((pair for pair in self.possible if pair[0] == user), None), done)
        return done

    def read(self) -> bool:
        user = self._some_user()
        return self._send("GET", f"/users/{user}/top?n=3") and self._send("GET", f"/users/{user}/ratings")

    def _some_user(self) -> str:
        return f"{self._name}-{self._random.randint(1, 30)}"

    def _note(self, changes: dict[tuple[str, str], float | None], done: bool) -> None:
        for pair, rating in changes.items():
            before = set() if done else self.possible.get(pair, {None})
            self.possible[pair] = before | {rating}

    def _send(self, method: str, path: str, body: object = None) -> bool:
        try:
            status = self.http.request(method, path, json=body).status_code
        except httpx.TransportError:  # the service was stopped
            status = 0
        self.statuses[method, status] += 1
        return status == 200


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("children"), MODULES) as nursery:
        yield nursery


@pytest.mark.parametrize("kind", SQLITE + POSTGRESQL)
def test_after_any_trouble_with_the_database_all_works_soon_and_nothing_is_lost(
    kind: type[Outage], jobs: Nursery, checkpoints: Path, tmp_path: Path, postgres_url: str
) -> None:
    outage, more = kind(tmp_path), tmp_path / "more.csv"
    more.write_text("user,item,rating\n" + "".join(f"more-{n % 40},{n % 90 + 1},{n % 5 + 1}\n" for n in range(400)))
    settings = {"max_seconds": "60", "recent_lists": "0"}

    def fit() -> tuple[object, ...]:
        out = tmp_path / f"fitted-{time.monotonic_ns()}"
        return "training", "fit", "--data", outage.url, "--table", "ratings", "--preset", "bias", "--out", out

    with outage.prepared(), held_port() as port, ExitStack() as opened:
        if outage.jobs_within:
            jobs = opened.enter_context(Nursery(tmp_path, MODULES, outage.jobs_within))
        url, flags = f"http://127.0.0.1:{port}", ("--port", str(port))
        settings["store"] = outage.url
        stays = opened.enter_context(serving(checkpoints, within=outage.within, **settings))
        clients = [Client(name, at) for name, at in (("a", url), ("b", url), ("c", stays.url))]
        for client in clients:
            opened.enter_context(client.http)
        with serving(checkpoints, *flags, within=outage.within, **settings) as service:
            assert all(change() for client in clients for change in client.kinds * 3)
            outage.begin()
            finished: list[Finished] = []
            commands = [fit(), ("training", "import", "--data", more, "--to", url)]
            beside = threading.Thread(target=lambda: finished.extend(jobs.run_at_once(commands)))
            beside.start()
            act_for(LASTS, clients)
            healthy(service)
            if not outage.allows_a_start:
                end(outage, clients, [service, stays])
        with serving(checkpoints, *flags, within=outage.within, **settings) as service:
            if outage.allows_a_start:
                for client in clients:
                    client.act()
                healthy(service)
                end(outage, clients, [service, stays])
            beside.join()
            done, imported = finished
            assert imported.code == 0, imported.stderr
            assert done.code in (0, 2), done.stderr
            assert done.code == 0 or done.stderr.splitlines()[-1].startswith("error: ")
            again = jobs.run(*fit())
            assert again.code == 0, again.stderr
        check(outage, clients)
    for client in clients:
        assert {status for _, status in client.statuses} <= {200, 503, 0}, client.statuses


def act_for(seconds: float, clients: list[Client]) -> None:
    """Let all clients act at once."""
    until = time.monotonic() + seconds

    def act(client: Client) -> None:
        while time.monotonic() < until:
            client.act()

    threads = [threading.Thread(target=act, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def healthy(service: Service) -> None:
    """What needs no database works."""
    for path in ("/health/live", "/health/ready", "/users/1/top", "/items?query=title"):
        assert httpx.get(service.url + path, timeout=60).status_code == 200


def end(outage: Outage, clients: list[Client], services: list[Service]) -> None:
    """End the trouble. Soon all changes and questions are answered, and then go on to be."""
    outage.end()
    began = time.monotonic()
    for client in clients:
        service = next(service for service in services if service.url == client.url)
        for change in client.kinds:
            wait_until(change, service.process, log=service.log, seconds=SOON)
    took = time.monotonic() - began
    print(f"{type(outage).__name__}: all works after {took:.1f} s")  # noqa: T201 - shown with -s
    assert took < SOON
    for client in clients:
        assert all(client.act() for _ in range(10))


def check(outage: Outage, clients: list[Client]) -> None:
    """The database has of each pair what was acknowledged last, or what was refused since."""
    url = address(outage.copied())
    driver = "sqlite+pysqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg"
    engine = sa.create_engine(url.set(drivername=driver), poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(sa.text('SELECT "user", item, rating FROM ratings'))
        found = {(user, item): rating for user, item, rating in rows}
    possible = {pair: ratings for client in clients for pair, ratings in client.possible.items()}
    wrong = {pair: (found.get(pair), ratings) for pair, ratings in possible.items() if found.get(pair) not in ratings}
    assert not wrong
    assert {pair for pair in found if not pair[0].startswith("more-")} <= possible.keys()
