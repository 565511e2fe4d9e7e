"""From a rating to the next model: stored, folded in, fitted on, served. With the programs that users run."""

from __future__ import annotations

import csv
import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from models.errors import InterruptedHalfWay
from models.registry.directory import load
from tests.support.forks import Finished, Nursery
from tests.support.reading import rows_of
from tests.support.service import Start, serving
from tests.support.waiting import wait_until
from training import upload
from training.data.dataset import load as load_data
from training.errors import SourceUnavailableError
from training.options import SourceOptions

pytestmark = pytest.mark.timeout(300)

USERS, ITEMS = 60, 50
LIMITED, UNLIMITED = "a-key-with-a-limit", "a-key-without-a-limit"


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Users of two kinds, who like what the others dislike."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(USERS * ITEMS)[:1_800]
    lines = [
        f"{cell // ITEMS},i{cell % ITEMS},{3 + (1 if cell // ITEMS % 2 == cell % 2 else -1) + rng.choice([0, 1])},1000"
        for cell in cells.tolist()
    ]
    file = tmp_path / "ratings.csv"
    file.write_text("\n".join(["user,item,rating,timestamp", *lines]) + "\n")
    return file


@pytest.fixture
def training(nursery: Nursery) -> Callable[..., Finished]:
    """Runs `python -m training` with arguments."""
    return partial(nursery.run, "training")


def test_a_rating_goes_all_the_way(
    start: Start, training: Callable[..., Finished], ratings: Path, tmp_path: Path, postgres_url: str
) -> None:
    out = tmp_path / "checkpoints"
    server = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE loop"))
    store = server.set(drivername="postgresql", database="loop").render_as_string(hide_password=False)
    first = training("fit", "--data", ratings, "--preset", "als", "--out", out)
    assert first.code == 0, first.stderr
    with start(out, store=store) as (client, process):
        for _ in range(2):
            imported = training("import", "--data", ratings, "--to", client.base_url)
            assert (imported.code, imported.stdout) == (0, f"stored 1,800 ratings in {client.base_url}\n")
        again = training("import", "--data", ratings, "--to", client.base_url, "--json", "--quiet")
        assert json.loads(again.stdout) == {"ratings": 1_800, "service": str(client.base_url)}
        assert again.stderr == ""
        for item in range(10):
            client.put(f"/users/newcomer/ratings/i{item}", json={"rating": 5 if item % 2 else 2}).raise_for_status()
        client.put("/users/newcomer/ratings/brand new", json={"rating": 5}).raise_for_status()
        client.delete("/users/7").raise_for_status()
        assert prediction(client, "newcomer", "i11")["source"] == "fold_in"
        assert prediction(client, "7", "i11")["source"] == "item_bias"
        before = client.get("/models/current").json()["version"]
        fitted = training(
            *("fit", "--data", store, "--table", "ratings", "--split", "random:0.1", "--refit", "--warm-start"),
            *("--preset", "als", "--out", out, "--json"),
        )
        assert fitted.code == 0, fitted.stderr
        assert f"the fit starts from {before}" in fitted.stderr
        version = json.loads(fitted.stdout.splitlines()[-1])["version"]
        wait_until(lambda: client.get("/models/current").json()["version"] == version, process)
        answer = prediction(client, "newcomer", "i11")
        assert answer["source"] == "model"
        assert answer["rating"] > prediction(client, "newcomer", "i12")["rating"]
        assert prediction(client, "newcomer", "brand new")["source"] == "model"
        assert prediction(client, "7", "i11")["source"] == "item_bias"
        client.put("/users/7/ratings/i1", json={"rating": 5}).raise_for_status()
        assert prediction(client, "7", "i11")["source"] == "fold_in"
        metrics = client.get("/metrics").text
    loaded = load(out)
    assert "7" not in loaded.users
    assert {"newcomer"} <= set(loaded.users.ids.to_pylist())
    seen, data = loaded.seen, loaded.manifest.data
    row = loaded.users.row("newcomer")
    assert int(seen.offsets[row + 1] - seen.offsets[row]) == 11
    assert data.train_ratings == seen.items_N.numel() > 1_700
    assert data.test_ratings > 100
    assert data.snapshot is not None
    assert data.drift is not None
    assert (data.drift.against, data.drift.known_items < 1) == (before, True)
    assert "That version knows the user of" in (out / version / "report" / "index.html").read_text("utf-8")
    assert 'ratecast_model_data{figure="coverage"}' in metrics
    assert 'ratecast_predictions_total{source="fold_in"}' in metrics
    assert "ratecast_store_changes_total" in metrics
    with engine.connect() as connection:
        connection.execute(sa.text("DROP DATABASE loop WITH (FORCE)"))


@pytest.mark.slow
def test_an_import_whose_service_is_killed_half_way_says_how_to_go_on_and_then_stores_every_rating_once(
    training: Callable[..., Finished], ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is killed while it works on a request, and started again on what it has stored."""
    out, store = tmp_path / "checkpoints", tmp_path / "ratings.sqlite"
    assert training("fit", "--data", ratings, "--preset", "bias", "--out", out).code == 0
    monkeypatch.setattr(upload.Ratings, "batch", 100)
    monkeypatch.setattr(upload, "PATIENCE", 2.0)
    rows = load_data([str(ratings)], rng=np.random.default_rng(0), cache=tmp_path).ratings
    with serving(out, store=f"sqlite:///{store}", ends_with=-signal.SIGKILL) as service:

        def kill_soon(done: int) -> None:
            if done == 700:
                threading.Timer(0.002, service.process.kill).start()

        with pytest.raises(SourceUnavailableError) as caught:
            upload.upload(upload.Ratings(rows), service.url, None, kill_soon)
    found = re.fullmatch(
        r"http://\S+ did not accept the ratings from number ([\d,]+) \(user (\d+), item (i\d+), rating \d\) on: "
        r".*\. [\d,]+ of 1,800 ratings are stored; --skip (\d+) goes on from there",
        str(caught.value),
    )
    assert found is not None, caught.value
    skip = int(found[4])
    assert skip >= 700
    assert (found[2], found[3]) == rows_of(rows)[skip][:2]
    with serving(out, store=f"sqlite:///{store}") as service:
        rest = training("import", "--data", ratings, "--to", service.url, "--skip", skip)
        assert (rest.code, rest.stdout) == (0, f"stored {1_800 - skip:,} ratings in {service.url}\n")
    stored = load_data([f"sqlite:///{store}"], SourceOptions(table="ratings"), rng=np.random.default_rng(0), cache=out)
    assert stored.rows == 1_800
    assert sorted(rows_of(stored.ratings)) == sorted(rows_of(rows))


@pytest.mark.slow
def test_an_import_that_is_interrupted_half_way_says_what_is_stored_and_how_to_go_on(
    training: Callable[..., Finished], ratings: Path, tmp_path: Path
) -> None:
    """The service takes one request and then asks to wait for a minute, in which the interrupt comes."""
    out, store, data = tmp_path / "checkpoints", tmp_path / "ratings.sqlite", tmp_path / "many.csv"
    data.write_text("user,item,rating\n" + "".join(f"u{n % 150},i{n // 150},{2 + n % 4}\n" for n in range(15_000)))
    assert training("fit", "--data", ratings, "--preset", "bias", "--out", out).code == 0
    content = upload.Ratings(load_data([str(data)], rng=np.random.default_rng(0), cache=tmp_path).ratings)
    limits = {"rate_limit": "0.017", "api_keys": LIMITED, "api_keys_may_rate": "true", "admin_keys": UNLIMITED}
    with serving(out, store=f"sqlite:///{store}", **limits) as service:
        words = ("import", "--data", str(data), "--to", service.url, "--key")
        command = [sys.executable, "-m", "training", *words, LIMITED]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            seen = [process.stderr.readline()]
            while "retrying in" not in seen[-1]:
                assert seen[-1], seen
                seen.append(process.stderr.readline())
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate()
        assert (process.returncode, stdout) == (130, "")
        said = "interrupted: 10,000 of 15,000 ratings are stored; --skip 10000 goes on from there"
        assert stderr.splitlines()[-1] == said
        with pytest.raises(InterruptedHalfWay, match=r"^10,000 of 15,000 .*; --skip 10000 goes on"):  # between requests
            upload.upload(content, service.url, UNLIMITED, lambda _: signal.raise_signal(signal.SIGINT))
        rest = training(*words, UNLIMITED, "--skip", 10_000)
        assert (rest.code, rest.stdout) == (0, f"stored 5,000 ratings in {service.url}\n")
    kept = load_data([f"sqlite:///{store}"], SourceOptions(table="ratings"), rng=np.random.default_rng(0), cache=out)
    assert sorted(row[:3] for row in rows_of(kept.ratings)) == sorted(row[:3] for row in rows_of(content.ratings))


@pytest.mark.slow
def test_a_catalogue_and_a_deletion_go_all_the_way(
    start: Start, training: Callable[..., Finished], ratings: Path, tmp_path: Path
) -> None:
    """Items are imported, hidden and deleted in the store; the next fit, the lists and the files follow."""
    out, items = tmp_path / "checkpoints", tmp_path / "items.csv"
    store = f"sqlite:///{out / 'ratings.sqlite'}"
    items.write_text("id,title,genres,colour,hidden\ni1,One (1999),War,red,no\ni2,Two,War|Drama,,yes\nnew,New,War,,\n")
    assert training("fit", "--data", ratings, "--preset", "bias", "--out", out).code == 0
    with start(out) as (client, _):
        for _ in range(2):
            imported = training("import", "--items", items, "--to", client.base_url)
            assert (imported.code, imported.stdout) == (0, f"stored 3 items in {client.base_url}\n")
        assert client.get("/items/i1").json()["labels"] == ["colour:red"]
        assert client.get("/items/i2").json()["hidden"]
        assert training("import", "--data", ratings, "--to", client.base_url).code == 0
        client.put("/items/i3", json={"title": "Three", "genres": ["War"]}).raise_for_status()
        client.delete("/items/i4").raise_for_status()
        client.delete("/users/7").raise_for_status()
    for genre, kept in (((), lambda item: item not in ("i2", "i4")), (("--genre", "War"), {"i1", "i3"}.__contains__)):
        top = training(
            "export", "--checkpoints", out, "--store", store, "--n", 99, *genre, "--out", tmp_path / "top.csv"
        )
        assert top.code == 0, top.stderr
        lists = read_csv(tmp_path / "top.csv")
        assert all(map(kept, {row["item"] for row in lists}))
        assert lists
        assert "7" not in {row["user"] for row in lists}
    again = training("fit", "--data", ratings, "--store", store, "--preset", "bias", "--out", out, "--json")
    figures = json.loads(again.stdout.splitlines()[-1])
    gone = 1_800 - figures["train_ratings"]
    assert (figures["erased_users"], figures["erased_ratings"]) == (1, gone)
    assert "7" not in load(out).users
    assert f"{gone} ratings of 1 users were left out" in again.stderr
    stored = training("fit", "--data", store, "--table", "ratings", "--preset", "bias", "--out", out)
    assert stored.code == 0, stored.stderr
    known = {row["id"]: row for row in load(out).catalogue.to_pylist()}
    assert (known["i1"]["title"], known["i1"]["year"], known["i1"]["labels"]) == ("One", 1999, ["colour:red"])
    assert (known["i3"]["title"], known["i4"]["title"]) == ("Three", None)
    written = training("export", "--ratings", "--store", store, "--out", tmp_path / "ratings.csv")
    assert (written.code, written.stdout) == (0, f"wrote {1_800 - gone:,} rows to {tmp_path / 'ratings.csv'}\n")
    rng = np.random.default_rng(0)
    source, exported = (
        load_data([str(file)], rng=rng, cache=out).ratings for file in (ratings, tmp_path / "ratings.csv")
    )
    assert sorted(rows_of(exported)) == sorted(row for row in rows_of(source) if row[0] != "7")
    one = training("export", "--ratings", "--user", "8", "--store", store, "--out", tmp_path / "one.parquet")
    assert one.code == 0, one.stderr
    assert set(parquet.read_table(tmp_path / "one.parquet")["user"].to_pylist()) == {"8"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("import", "--to", "http://127.0.0.1:9"), "give --data for ratings or --items for a catalogue"),
        (("import", "--items", "{twice}", "--to", "http://127.0.0.1:9"), "the id a has more than one row"),
        (("import", "--items", "{hidden}", "--to", "http://127.0.0.1:9"), "is neither true nor false"),
        (
            ("import", "--items", "{until}", "--to", "http://127.0.0.1:9"),
            "'soon' is neither a number nor an ISO 8601 time",
        ),
        (("export", "--out", "{out}"), "give --checkpoints for lists, or --ratings"),
        (("export", "--ratings", "--out", "{out}"), "--ratings needs --store"),
        (("export", "--ratings", "--store", "sqlite:///{other}", "--out", "{out}"), "no ratings store"),
        (("export", "--ratings", "--store", "sqlite:///nowhere", "--out", "{out}"), "no such SQLite file"),
        (
            ("fit", "--data", "{twice}", "--store", "sqlite:///{other}", "--preset", "bias", "--out", "{out}"),
            "no ratings",
        ),
    ],
)
def test_what_cannot_be_moved_is_one_line(
    training: Callable[..., Finished], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    files = {"twice": "id\na\na\n", "hidden": "id,hidden\na,perhaps\n", "until": "id,available_until\na,soon\n"}
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content)
    places = {name: tmp_path / f"{name}.csv" for name in files} | {"out": tmp_path / "out.csv"}
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE ratings (a)")
    done = training(*(word.format(**places, other=tmp_path / "other") for word in words))
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.csv").exists()


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [*csv.DictReader(lines)]


def prediction(client: httpx.Client, user: str, item: str) -> dict[str, object]:
    answer: dict[str, object] = client.post("/predict", json={"user": user, "item": item}).json()
    return answer


def test_a_service_that_does_not_take_ratings_is_named_in_one_line(
    start: Start, training: Callable[..., Finished], ratings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "checkpoints"
    assert training("fit", "--data", ratings, "--preset", "bias", "--out", out).code == 0
    with start(out, store="none") as (client, _):
        refused = training("import", "--data", ratings, "--to", client.base_url)
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1].startswith(
        f"error: {client.base_url} did not accept the ratings from number 1 (user "
    )
