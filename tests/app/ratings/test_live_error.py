"""Each new rating is compared once with what was predicted before it: sums equal those computed by hand."""

from __future__ import annotations

import asyncio
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from app.engine.live_error import _before
from app.main import create_app
from app.ratings import live_error
from app.ratings.live_error import ErrorSums, Judged
from app.ratings.records import Delete, Erase, Put, PutMany, Rating
from app.ratings.tables import lease
from app.settings import Settings
from models.biases import Biases
from models.registry.directory import load, publish
from tests.app.ratings.test_store import opened, run
from tests.support.asgi import Caller, calling
from tests.support.drafts import random_draft
from training.data.store import live_errors

JSON = [("content-type", "application/json")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    publish(tmp_path / "checkpoints", random_draft(seed=0))
    return tmp_path / "checkpoints"


@pytest.fixture
def call(directory: Path, store_url: str) -> Iterator[Caller]:
    settings = Settings(checkpoints=directory, store=store_url, new_items=0)  # see `test_live_error_kill.py`
    with calling(create_app(settings)) as call:
        yield call


def ask(call: Caller, method: str, path: str, body: object = None, query: str = "") -> Any:
    content = b"" if body is None else json.dumps(body).encode()
    answer = call(method, path, content, JSON if content else (), query=query.encode())
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def settled(call: Caller) -> dict[str, dict[str, Any]]:
    """The figures by source, once nothing waits."""
    while (quality := ask(call, "GET", "/quality"))["waiting"]:
        call.wait(0.1)
    return {figures["source"]: figures for figures in quality["figures"]}


class ByHand:
    """Adds up the errors of predictions that are asked for just before each rating."""

    def __init__(self, call: Caller) -> None:
        self.call = call
        self.errors: dict[str, list[float]] = defaultdict(list)

    def predicted(self, user: str, item: str) -> tuple[str, float]:
        found = ask(self.call, "POST", "/predict", {"user": user, "item": item})
        source = found["source"] if found["source"] in ("model", "fold_in") else "unknown"
        return source, found["rating"]

    def put(self, user: str, item: str, rating: float) -> None:
        source, predicted = self.predicted(user, item)
        self.errors[source].append(predicted - rating)
        ask(self.call, "PUT", f"/users/{user}/ratings/{item}", {"rating": rating})

    def check(self, found: dict[str, dict[str, Any]]) -> None:
        assert {source: found[source]["ratings"] for source in self.errors} == {
            source: len(errors) for source, errors in self.errors.items()
        }
        for source, errors in [
            *self.errors.items(),
            ("all", [error for some in self.errors.values() for error in some]),
        ]:
            assert found[source]["rmse"] == pytest.approx(math.sqrt(np.mean(np.square(errors))), abs=1e-6)
            assert found[source]["mae"] == pytest.approx(np.mean(np.abs(errors)), abs=1e-6)


def test_the_errors_are_those_of_predictions_just_before_each_rating(call: Caller) -> None:
    """Of users of the model, who are folded in from their first rating on; of nobody; and of an unknown item."""
    by_hand, rng = ByHand(call), np.random.default_rng(0)
    loaded = {item for user in ("7", "8") for item in trained(call, user)}
    new = [str(item) for item in range(1, 300) if str(item) not in loaded]
    for turn in range(24):
        by_hand.put(("7", "8", "nobody")[turn % 3], new[turn], float(rng.integers(1, 6)))
    by_hand.put("7", "unheard of", 4.0)
    found = settled(call)
    by_hand.check(found)
    assert found.keys() == {"model", "fold_in", "unknown", "all"}


def trained(call: Caller, user: str) -> list[str]:
    return [rating["item"] for rating in ask(call, "GET", f"/users/{user}/ratings")["ratings"]]


def test_ratings_that_come_at_once_are_predicted_from_what_was_known_before_all_of_them(call: Caller) -> None:
    items = [str(item) for item in range(1, 6)]
    by_hand = ByHand(call)
    for user in ("bulk", "other"):
        for item in items:
            source, predicted = by_hand.predicted(user, item)
            by_hand.errors[source].append(predicted - 4)
    body = {"users": ["bulk"] * 5 + ["other"] * 5, "items": items * 2, "ratings": [4] * 10}
    ask(call, "POST", "/ratings", body)
    by_hand.check(settled(call))


@contextmanager
def nobody_compares(call: Caller, database: sa.Engine) -> Iterator[None]:
    """Until the block ends another worker has the lease."""
    give_lease(call, database, until=4_000_000_000)
    yield
    give_lease(call, database, until=0)


def give_lease(call: Caller, database: sa.Engine, until: int) -> None:
    """Give the lease to another worker. The service works meanwhile: it may be within a transaction."""

    def give() -> None:
        with database.begin() as connection:
            connection.execute(sa.update(lease).values(holder="another", until=until))

    with ThreadPoolExecutor(1) as pool:
        given = pool.submit(give)
        while not given.done():
            call.wait(0.01)
        given.result()


def test_what_is_changed_before_a_rating_is_compared_makes_no_difference(call: Caller, database: sa.Engine) -> None:
    """A rating changed, one deleted, one of the training data deleted, and one rated again after a deletion."""
    fitted = next(item for item in trained(call, "7") if item.isdigit())
    new = [str(item) for item in range(1, 300) if str(item) not in trained(call, "7")]
    by_hand = ByHand(call)
    for item in new[:3]:
        by_hand.put("7", item, 5)
    ask(call, "DELETE", f"/users/7/ratings/{new[2]}")
    with nobody_compares(call, database):
        by_hand.put("7", new[3], 1)
        ask(call, "PUT", f"/users/7/ratings/{new[0]}", {"rating": 1})
        ask(call, "DELETE", f"/users/7/ratings/{new[1]}")
        ask(call, "DELETE", f"/users/7/ratings/{fitted}")
        ask(call, "PUT", f"/users/7/ratings/{new[2]}", {"rating": 2})
        by_hand.put("7", new[4], 3)
        ask(call, "PUT", f"/users/7/ratings/{new[0]}", {"rating": 3})
        by_hand.put("7", new[5], 4)
    by_hand.check(settled(call))


def test_ratings_that_came_together_are_compared_together_however_many_they_are(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_error, "MOST_TOGETHER", 3)
    by_hand = ByHand(call)
    by_hand.put("bulk", "20", 2.0)
    items = [str(item) for item in range(1, 9)]
    for item in items:
        source, predicted = by_hand.predicted("bulk", item)
        by_hand.errors[source].append(predicted - 5)
    ask(call, "POST", "/ratings", {"users": ["bulk"] * 8, "items": items, "ratings": [5] * 8})
    by_hand.check(settled(call))


def test_changes_that_no_waiting_rating_needs_are_forgotten(call: Caller, database: sa.Engine) -> None:
    for rating in (1, 5, 3):
        ask(call, "PUT", "/users/nobody/ratings/3", {"rating": rating})
    ask(call, "DELETE", "/users/nobody/ratings/3")
    settled(call)

    def kept() -> int:
        with database.connect() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM ratecast_replaced")).scalar_one())

    while kept():
        call.wait(0.1)


def test_a_user_who_is_deleted_and_rates_again_at_once_is_compared_as_nobody(store_url: str, directory: Path) -> None:
    async def work(store: Any) -> None:
        await asyncio.gather(store.change(Erase("7")), store.change(Put("7", Rating("1", 3.0, 0))))
        ((waiting,), stored) = await store.incoming(), (await store.of(["7"]))["7"]
        before = _before(stored, waiting, {"1"}, [])
        assert (before.revision, before.erased, before.ratings) == (waiting.revision, waiting.revision, ())

    run(store_url, work)


def test_of_two_services_that_store_one_pair_at_once_one_notes_it_as_new(store_url: str) -> None:
    """And of two new ratings of one user, the second comes after the first."""

    async def work(store: Any) -> None:
        async with opened(store_url) as other:
            for number in range(40):
                await asyncio.gather(*(one.change(Put(f"u{number}", Rating("1", 3.0, 0))) for one in (store, other)))
                same = f"v{number}"
                changes = store.change(Put(same, Rating("1", 3.0, 0))), other.change(Put(same, Rating("2", 3.0, 0)))
                await asyncio.gather(*changes)
        found = await store.incoming()
        assert len([one for one in found if one.user.startswith("u")]) == 40
        for number in range(40):
            first, second = [one for one in found if one.user == f"v{number}"]
            assert (first.before, second.before) == (0, first.revision)

    run(store_url, work)


def test_a_changed_rating_counts_once_and_one_of_the_training_data_or_that_was_deleted_not_at_all(call: Caller) -> None:
    for rating in (1, 5, 3):
        ask(call, "PUT", "/users/nobody/ratings/3", {"rating": rating})
    ask(call, "DELETE", "/users/nobody/ratings/4")
    ask(call, "PUT", "/users/nobody/ratings/4", {"rating": 2})
    ask(call, "PUT", f"/users/7/ratings/{next(item for item in trained(call, '7') if item.isdigit())}", {"rating": 2})
    assert settled(call)["all"]["ratings"] == 1


def test_what_biases_alone_predict_is_measured_beside_it(call: Caller, directory: Path) -> None:
    loaded = load(directory)
    means_I = loaded.catalogue["mean_rating"].to_numpy()
    biases = Biases(loaded.manifest.data.rating_mean, loaded.ratings_I, means_I)
    row, none = loaded.items.row("3"), np.empty(0, np.int64)
    (predicted,) = biases.predict(none, none.astype(float), np.array([row]))
    mean, count = loaded.manifest.data.rating_mean, loaded.ratings_I[row]
    assert predicted == pytest.approx(mean + count * (means_I[row] - mean) / (10 + count))
    ask(call, "PUT", "/users/nobody/ratings/3", {"rating": 5})
    assert settled(call)["all"]["bias_mae"] == pytest.approx(5 - predicted)
    (second,) = biases.predict(np.array([row]), np.array([5.0]), np.array([loaded.items.row("4")]))
    item = means_I[loaded.items.row("4")] - mean
    count4 = loaded.ratings_I[loaded.items.row("4")]
    assert second == pytest.approx(mean + count4 * item / (10 + count4) + (5 - predicted) / 16)


def test_the_figures_are_metrics_of_the_served_version(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.live_error.TELL_SECONDS", 0.0)
    ask(call, "PUT", "/users/nobody/ratings/3", {"rating": 5})
    found = settled(call)["unknown"]
    while b'ratecast_live_error{figure="rmse",source="unknown",version="' not in (page := call("GET", "/metrics").body):
        call.wait(0.1)
    line = next(row for row in page.decode().splitlines() if row.startswith('ratecast_live_error{figure="rmse"'))
    assert float(line.split()[-1]) == pytest.approx(found["rmse"])


def test_a_service_without_a_store_has_no_live_error(directory: Path) -> None:
    with calling(create_app(Settings(checkpoints=directory, store="none"))) as call:
        assert call("GET", "/quality").status == 501
        assert call("GET", "/quality", query=b"days=91").status == 422


def test_what_two_compare_counts_once(store_url: str) -> None:
    """As after a lease that ran out, or a kill between comparing and counting."""

    async def work(store: Any) -> None:
        await store.change(PutMany(["a", "b"], [Rating("1", 3.0, 0), Rating("2", 4.0, 0)]))
        waiting = await store.incoming()
        assert [(one.user, one.item, one.rating, one.before) for one in waiting] == [("a", "1", 3, 0), ("b", "2", 4, 0)]
        judged = [(one, Judged("v", "model", ErrorSums(ratings=1, squared=one.rating))) for one in waiting]
        await store.settle(judged[:1])
        await asyncio.gather(store.settle(judged), store.settle(judged))
        assert (await store.error_sums(0))["v", "model"] == ErrorSums(ratings=2, squared=7.0)
        assert await store.waiting() == 0

    run(store_url, work)


def test_one_compares_at_a_time_until_the_lease_runs_out(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(store: Any) -> None:
        assert [await store.claim(name) for name in ("a", "b", "a")] == [True, False, True]
        monkeypatch.setattr(live_error.time, "time", lambda: 4e9)
        assert await store.claim("b")

    run(store_url, work)


def test_a_lease_and_an_hour_of_a_clock_that_was_far_ahead_count_no_more(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would compare for years after a restart, and old errors would be among those of the last days."""

    async def work(store: Any) -> None:
        await store.change(Put("a", Rating("1", 3.0, 0)))
        (one,) = await store.incoming()
        with monkeypatch.context() as ahead:
            ahead.setattr(live_error.time, "time", lambda: 4e9)
            assert await store.claim("a")
            await store.settle([(one, Judged("v", "model", ErrorSums(ratings=1)))])
            assert len(await store.error_sums(0)) == 1
        assert await store.claim("b")
        assert not await store.claim("a")
        assert await store.error_sums(0) == {}

    run(store_url, work)
    assert live_errors(store_url.replace("postgresql://", "postgresql+psycopg://")) == ()


def test_the_revision_before_is_that_of_the_user_and_an_erased_user_does_not_wait(store_url: str) -> None:
    async def work(store: Any) -> None:
        first = await store.change(Put("a", Rating("1", 3.0, 0)))
        await store.change(Put("b", Rating("1", 3.0, 0)))
        await store.change(Put("a", Rating("2", 4.0, 0)))
        await store.change(Put("a", Rating("2", 5.0, 0)))
        await store.change(Delete("a", "9"))
        await store.change(Put("a", Rating("9", 5.0, 0)))
        found = [(one.user, one.item, one.rating, one.before) for one in await store.incoming()]
        assert found == [("a", "1", 3.0, 0), ("b", "1", 3.0, 0), ("a", "2", 4.0, first)]
        await store.change(Erase("a"))
        assert [one.user for one in await store.incoming()] == ["b"]

    run(store_url, work)


def test_a_fit_on_the_store_reads_the_same_figures(call: Caller, store_url: str) -> None:
    ask(call, "PUT", "/users/nobody/ratings/3", {"rating": 5})
    ask(call, "PUT", "/users/nobody/ratings/4", {"rating": 1})
    found = settled(call)
    (fold_in, unknown) = live_errors(store_url.replace("postgresql://", "postgresql+psycopg://"))
    for row in (fold_in, unknown):
        figures = found[row.source]
        assert (row.ratings, row.rmse, row.mae) == (1, figures["rmse"], figures["mae"])
        assert (row.bias_rmse, row.coverage90) == (figures["bias_rmse"], figures["coverage90"])


def test_a_database_that_is_no_store_has_none(tmp_path: Path) -> None:
    (tmp_path / "other.sqlite").touch()
    assert live_errors(f"sqlite:///{tmp_path / 'other.sqlite'}") == ()


def test_old_hours_are_forgotten(store_url: str, database: sa.Engine) -> None:
    async def work() -> None:
        async with opened(store_url) as store:
            await store.change(Put("a", Rating("1", 3.0, 0)))
            (one,) = await store.incoming()
            await store.settle([(one, Judged("v", "model", ErrorSums(ratings=1)))])

    asyncio.run(work())
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE ratecast_quality SET hour = hour - 24 * 91"))

    async def again() -> None:
        async with opened(store_url) as store:
            await store.change(Put("a", Rating("2", 3.0, 0)))
            (one,) = await store.incoming()
            await store.settle([(one, Judged("v", "fold_in", ErrorSums(ratings=1)))])
            assert (await store.error_sums(0)).keys() == {("v", "fold_in")}

    asyncio.run(again())
