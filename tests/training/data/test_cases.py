"""Files that people had trouble with, one folder each: every one is read right, or refused with a line that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from models.registry.directory import load as load_checkpoint
from tests.support.forks import Finished, Nursery
from tests.support.reading import Row, read, rows_of
from training.config import JobConfig
from training.data.dataset import load
from training.data.summary import summary
from training.data.train_test import read as read_split
from training.errors import DataError
from training.options import SourceOptions

CASES = Path(__file__).parent / "cases"
BOOK_CROSSING = {"user": "User-ID", "item": "ISBN", "rating": "Book-Rating"}


def plainly(path: Path, separator: str, *, header: bool = True) -> list[Row]:
    """The rows of a file without quotes, one by one."""
    lines = path.read_text().replace("\r", "\n").split("\n")[int(header) :]
    fields = [line.split(separator) for line in lines if line]
    return [
        (user.strip(), item.strip(), float(rating), int(time[0]) if time else None)
        for user, item, rating, *time in fields
    ]


@pytest.mark.parametrize(
    ("name", "separator", "header", "options"),
    [
        ("carriage-returns/ratings.csv", ",", True, {}),
        ("csv-without-header/ratings.csv", ",", False, {}),
        ("header-with-blanks/ratings.csv", ",", True, {}),
        ("other-separator-in-csv/semicolon.csv", ";", True, {}),
        ("other-separator-in-csv/tab.csv", "\t", True, {}),
        ("other-separator-in-data-and-dat/comma.data", ",", False, {}),
        ("other-separator-in-data-and-dat/space.data", " ", False, {}),
        ("other-separator-in-data-and-dat/tab.dat", "\t", False, {}),
        ("quoted-part-of-a-tsv-id/ratings.tsv", "\t", True, {}),
        ("unbalanced-quote/ratings.tsv", "\t", True, {}),
        ("unbalanced-quote/one-quote.tsv", "\t", True, {}),
    ],
)
def test_every_row_is_read_as_it_stands(name: str, separator: str, header: bool, options: dict[str, Any]) -> None:
    rows = rows_of(read(CASES / name, **options).ratings)
    assert rows == plainly(CASES / name, separator, header=header)
    assert len(rows) >= 6


def test_book_crossing_is_read_as_it_was_published(tmp_path: Path) -> None:
    path = CASES / "other-separator-in-csv/bx.csv"
    (tmp_path / "plain").write_text(path.read_text().replace('"', ""))
    assert rows_of(read(path, columns=BOOK_CROSSING).ratings) == plainly(tmp_path / "plain", ";")
    with pytest.raises(DataError, match="no column user, item, rating; found User-ID, ISBN, Book-Rating"):
        read(path)


def test_milliseconds_become_seconds() -> None:
    path = CASES / "milliseconds/ratings.csv"
    expected = [(*row[:3], (row[3] or 0) // 1_000) for row in plainly(path, ",")]
    assert rows_of(read(path).ratings) == expected


def test_users_1_and_1_0_are_one(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("ratings.csv", "guest.csv"):
        ratings = read(CASES / "mixed-1-and-1.0" / name).ratings
        users = [row[0] for row in plainly(CASES / "mixed-1-and-1.0" / name, ",")]
        assert [row[0] for row in rows_of(ratings)] == [user.removesuffix(".0") for user in users]
    assert ratings.user_ids.to_pylist()[-1] == "guest"
    assert "user ids are read without .0: 0.0 is 0" in caplog.text


@pytest.mark.parametrize(("name", "code"), [("anime.csv", -1), ("jester.csv", 99)])
def test_codes_for_not_rated_are_told_of_and_can_be_dropped(
    name: str, code: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = CASES / "not-rated-codes" / name
    rows = plainly(path, ",")
    rated = [row for row in rows if row[2] != code]
    rng = np.random.default_rng(0)
    dataset = load([str(path)], rng=rng, cache=Path("not needed"))
    assert code in dataset.scale
    assert summary(dataset)["histogram"]
    assert f"are {code:g}, apart from all others: if that means “not rated”, give --drop-rating {code:g}" in caplog.text
    dataset = load([str(path)], SourceOptions(drop_ratings=(code,)), rng=rng, cache=Path("not needed"))
    assert (len(dataset.ratings), dataset.rows, dataset.dropped) == (len(rated), len(rows), len(rows) - len(rated))
    assert dataset.scale == pytest.approx((min(row[2] for row in rated), max(row[2] for row in rated)))


def fit(nursery: Nursery, out: Path, *options: object) -> Finished:
    return nursery.run("training", "fit", "--preset", "bias", "--device", "cpu", "--out", out, "--quiet", *options)


def test_where_all_ratings_are_equal_figures_have_no_percentage_and_the_gate_refuses(
    nursery: Nursery, tmp_path: Path
) -> None:
    options = ("--data", CASES / "constant-ratings/ratings.csv", "--split", "random:0.1")
    done = nursery.run("training", "evaluate", "--preset", "bias", "--device", "cpu", "--quiet", *options)
    assert (done.code, done.stderr) == (0, "")
    assert "RMSE" in done.stdout
    done = fit(nursery, tmp_path / "out", *options)
    assert done.code == 3
    assert "all ratings are 1: there is nothing to predict" in done.stderr
    assert not (tmp_path / "out").exists()


def test_ratings_that_differ_little_for_their_size_are_judged_without_a_crash(nursery: Nursery, tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    lines = [f"{n % 20},{n // 20},{100_000_000 + n % 5}" for n in range(300)]
    path.write_text("\n".join(["user,item,rating", *lines]))
    options = ("--data", path, "--split", "random:0.1", "--preset", "bias", "--device", "cpu")
    assert nursery.run("training", "evaluate", *options).code == 0
    assert nursery.run("training", "fit", *options, "--out", tmp_path / "out").code in (0, 3)


def test_the_published_scale_is_that_of_all_ratings(nursery: Nursery, tmp_path: Path) -> None:
    data = CASES / "scale-from-training-part/ratings.csv"
    done = fit(nursery, tmp_path / "out", "--data", data, "--split", "random:0.1", "--force")
    assert done.code == 0, done.stderr
    model = load_checkpoint(tmp_path / "out").manifest.model
    assert (model.rating_min, model.rating_max) == (1, 5)


def test_an_id_of_attributes_keeps_its_zeros() -> None:
    folder = CASES / "attribute-ids-lose-zeros"
    config = JobConfig(
        data=[str(folder / "ratings.csv")],
        item_attributes=str(folder / "items.csv"),
        preset="bayes",
        cache=Path("not needed"),
    )
    ratings = read_split(config, with_attributes=True)
    assert ratings.train.items == 12
    assert ratings.item_attributes_IA is not None
    assert len(ratings.item_attributes_IA) == 12
    assert np.abs(ratings.item_attributes_IA).sum(1).all()


def test_a_folder_and_a_url_are_read_as_a_file_is(tmp_path: Path) -> None:
    content = (CASES / "milliseconds/ratings.csv").read_bytes()
    (tmp_path / "ratings").mkdir()
    (tmp_path / "ratings" / "part-0.csv").write_bytes(content)
    store = fsspec.filesystem("memory")
    store.pipe("/cases/part-0.csv", content)
    expected = rows_of(read(CASES / "milliseconds/ratings.csv").ratings)
    folder = tmp_path / "ratings"
    for source in (folder, folder.as_uri(), f"{folder.as_uri()}/part-0.csv", "memory://cases", "memory://cases/*.csv"):
        assert rows_of(read(source).ratings) == expected
    store.rm("/cases", recursive=True)


@pytest.mark.parametrize("password", ["hunter2@pw", "hunter2@pw/x", "hunter2:@pw", "hunter2@pw?x"])
def test_an_error_shows_no_part_of_a_password(nursery: Nursery, password: str) -> None:
    url = f"postgresql://shop:{password}@127.0.0.1:1/x"
    options = ("--data", url, "--table", "ratings", "--split", "random:0.1", "--preset", "als")
    done = nursery.run("training", "evaluate", *options)
    assert done.code == 2
    assert "%40" in done.stderr
    assert not any(part in done.stdout + done.stderr for part in ("hunter2", "pw", "127.0.0.1"))
