"""What was acknowledged is there: in the next answer of any worker, after a kill of the service or of the database."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.registry.directory import publish
from tests.support.asgi import calling
from tests.support.drafts import random_draft
from tests.support.postgres import Postgres
from tests.support.postgres import postgres as new_postgres
from tests.support.service import TRUSTS_NOBODY, Start, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)  # services and databases are started and killed, while other tests have work too

ITEM = "3"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    publish(tmp_path / "checkpoints", random_draft(seed=0))
    return tmp_path / "checkpoints"


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Postgres]:
    with new_postgres() as server:
        yield server


def stored(url: sa.URL | str) -> set[tuple[str, str, float]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(sa.text('SELECT "user", item, rating FROM ratings'))
        return {(user, item, rating) for user, item, rating in rows}


@dataclass
class Writers:
    """Clients that store one rating after the other, and remember what was acknowledged."""

    url: str
    process: subprocess.Popen[bytes]
    acknowledged: set[tuple[str, str, float]] = field(default_factory=set)
    refused: list[tuple[int, str | None]] = field(default_factory=list)
    lost_connections: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for turn in range(1_000_000):
                if self._stop.is_set():
                    return
                user, item, rating = f"w{number}", str(1 + turn), float(1 + turn % 5)
                try:
                    answer = client.put(f"/users/{user}/ratings/{item}", json={"rating": rating})
                except httpx.TransportError:
                    self.lost_connections += 1
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    self.acknowledged.add((user, item, rating))
                else:
                    self.refused.append((answer.status_code, answer.headers.get("Retry-After")))
                    time.sleep(0.02)

    def __enter__(self) -> Writers:
        self._threads = [threading.Thread(target=self.run, args=(number,)) for number in range(8)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_acknowledged(self, more: int) -> None:
        wanted = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= wanted, self.process)


@pytest.mark.parametrize(
    ("database", "workers", "turns"), [("sqlite", 2, 3), pytest.param("postgresql", 3, 15, marks=pytest.mark.slow)]
)
def test_the_next_answer_of_any_worker_reflects_a_rating(
    start: Start, directory: Path, database: str, workers: int, turns: int, request: pytest.FixtureRequest
) -> None:
    """Every connection may be another worker's. Each client rates, and asks over new connections."""
    settings = {}
    if database == "postgresql":
        settings["store"] = request.getfixturevalue("postgres").url
    with start(directory, "--workers", str(workers), **settings) as (client, _):
        url = str(client.base_url)

        def rate_and_ask(number: int) -> None:
            user, seen = (
                f"reader {number}",
                {httpx.post(f"{url}/predict", json=pair(f"reader {number}"), verify=TRUSTS_NOBODY).json()["rating"]},
            )
            for turn in range(turns):
                rating = {"rating": 1 + 4 * (turn % 2)}
                rated = httpx.put(f"{url}/users/{user}/ratings/{10 + turn}", json=rating, verify=TRUSTS_NOBODY)
                assert rated.status_code == 200
                answers = [httpx.post(f"{url}/predict", json=pair(user), verify=TRUSTS_NOBODY).json() for _ in range(4)]
                lists = [httpx.get(f"{url}/users/{user}/top?n=100", verify=TRUSTS_NOBODY).json() for _ in range(2)]
                assert {answer["source"] for answer in answers} == {"fold_in"}
                (rating,) = {answer["rating"] for answer in answers}
                assert rating not in seen
                seen.add(rating)
                rated_items = {str(10 + earlier) for earlier in range(turn + 1)}
                assert all(rated_items.isdisjoint(item["item"] for item in found["items"]) for found in lists)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(rate_and_ask, number) for number in range(4)]:
                done.result()


def pair(user: str) -> dict[str, str]:
    return {"user": user, "item": ITEM}


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_kill_of_the_service_loses_no_acknowledged_rating(
    directory: Path, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if database == "sqlite":
        store = f"sqlite:///{tmp_path / 'killed.sqlite'}"
        look = sa.make_url(store)
    else:
        store = request.getfixturevalue("postgres").url
        look = sa.make_url(store).set(drivername="postgresql+psycopg")
    acknowledged: set[tuple[str, str, float]] = set()
    for _ in range(3):
        with (
            serving(directory, store=store, ends_with=-signal.SIGKILL) as service,
            Writers(service.url, service.process) as writers,
        ):
            writers.await_acknowledged(60)
            service.process.kill()
            service.process.wait()
        acknowledged |= writers.acknowledged
        assert acknowledged <= stored(look)
    assert len(acknowledged) >= 60


@pytest.mark.slow
def test_a_kill_of_the_database_loses_no_acknowledged_rating(start: Start, directory: Path, postgres: Postgres) -> None:
    with start(directory, store=postgres.url) as (client, process), Writers(str(client.base_url), process) as writers:
        for _ in range(3):
            writers.await_acknowledged(60)
            refused = len(writers.refused)
            postgres.kill()
            wait_until(lambda refused=refused: len(writers.refused) > refused, process)
            postgres.start()
        writers.await_acknowledged(60)
    assert writers.acknowledged <= postgres.rows()
    assert {status for status, _ in writers.refused} <= {503}


@pytest.mark.slow
def test_while_the_database_is_away_predictions_go_on_and_writes_are_refused_with_a_time(
    start: Start, directory: Path, postgres: Postgres
) -> None:
    with start(directory, store=postgres.url) as (client, process):
        for item, rating in (("5", 5), ("9", 1)):
            assert client.put(f"/users/fresh/ratings/{item}", json={"rating": rating}).status_code == 200
        kept = client.post("/predict", json=pair("fresh")).json()
        assert kept["source"] == "fold_in"
        assert client.put("/users/unseen/ratings/5", json={"rating": 5}).status_code == 200
        with Writers(str(client.base_url), process) as writers:
            writers.await_acknowledged(20)
            postgres.stop()
            until, slowest = time.monotonic() + 3, 0.0
            while time.monotonic() < until:
                began = time.monotonic()
                assert client.post("/predict", json=pair("fresh")).json() == kept
                assert client.post("/predict", json=pair("7")).json()["source"] == "model"
                assert client.post("/predict", json=pair("unseen")).json()["source"] in ("item_bias", "fold_in")
                assert client.get("/users/fresh/top").json()["source"] == "fold_in"
                slowest = max(slowest, time.monotonic() - began)
            assert client.get("/users/fresh/ratings").status_code == 503
            assert slowest < 5
            refused = client.put("/users/fresh/ratings/7", json={"rating": 5})
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json()["type"] == "urn:ratecast:problem:store-unavailable"
            postgres.start()
            writers.await_acknowledged(20)
        assert writers.refused
        assert set(writers.refused) == {(503, "1")}
        assert writers.acknowledged <= postgres.rows()
        assert client.post("/predict", json=pair("unseen")).json()["source"] == "fold_in"


@pytest.mark.slow
def test_a_service_that_starts_before_its_database_finds_it_later(
    start: Start, directory: Path, postgres: Postgres
) -> None:
    url = postgres.url
    postgres.stop()
    with start(directory, store=url) as (client, process):
        assert client.post("/predict", json=pair("7")).json()["source"] == "model"
        assert client.put("/users/new/ratings/5", json={"rating": 5}).status_code == 503
        postgres.start()
        wait_until(lambda: client.put("/users/new/ratings/5", json={"rating": 5}).status_code == 200, process)
        assert client.post("/predict", json=pair("new")).json()["source"] == "fold_in"


@pytest.mark.parametrize("trouble", ["newer", "foreign", "url"])
def test_a_store_that_cannot_be_used_keeps_the_service_from_starting_with_one_line(
    refusal: Callable[..., str], directory: Path, tmp_path: Path, trouble: str
) -> None:
    file = tmp_path / "store.sqlite"
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
    table = {"newer": "ratecast_version (version_num text)", "foreign": "ratings (stars integer)"}.get(trouble)
    if table:
        with engine.begin() as connection:
            connection.execute(sa.text(f"CREATE TABLE {table}"))
            if trouble == "newer":
                connection.execute(sa.text("INSERT INTO ratecast_version VALUES ('9999')"))
    store = "mysql://root:secret@host/name" if trouble == "url" else f"sqlite:///{file}"
    line = refusal("--checkpoints", str(directory), "--port", "0", store=store)
    assert {"newer": "newer release", "foreign": "of another program", "url": "not mysql"}[trouble] in line
    assert "secret" not in line


KEYS = {"api_keys": "k" * 16, "admin_keys": "a" * 16}


@pytest.mark.parametrize("may_rate", [False, True])
def test_who_may_store_ratings_is_a_setting_and_erasing_takes_an_admin(directory: Path, may_rate: bool) -> None:
    json_body = ("content-type", "application/json")
    client_key, admin_key = ((json_body, ("authorization", f"Bearer {key}")) for key in KEYS.values())
    keys = {name: SecretStr(key) for name, key in KEYS.items()}
    wanted = 200 if may_rate else 403
    with calling(create_app(Settings(checkpoints=directory, api_keys_may_rate=may_rate, **keys))) as call:
        put = call("PUT", "/users/u/ratings/5", b'{"rating": 5}', client_key)
        many = call("POST", "/ratings", b'{"users": ["u"], "items": ["6"], "ratings": [4]}', client_key)
        removed = call("DELETE", "/users/u/ratings/5", b"", client_key)
        assert [answer.status for answer in (put, many, removed)] == [wanted] * 3
        assert call("GET", "/users/u/ratings", b"", client_key).status == 200
        assert call("DELETE", "/users/u", b"", client_key).status == 403
        assert call("DELETE", "/users/u", b"", admin_key).status == 200
        assert call("PUT", "/users/u/ratings/5", b'{"rating": 5}', (json_body,)).status == 401
        assert call("DELETE", "/users/org%2Fratings%2Falice", b"", client_key).status == 403
        assert call("DELETE", "/users/org%2Fratings%2Falice", b"", admin_key).status == 200
        assert call("PUT", "/users/a%2Fb/ratings/5%2F6", b'{"rating": 5}', client_key).status == wanted
