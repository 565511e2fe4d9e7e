"""Ratings from other databases than the service's own: DuckDB, and a MariaDB server as MySQL speaks it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
import sqlalchemy as sa

from tests.support.waiting import wait_until
from training.data.dataset import Dataset, load
from training.errors import DataError
from training.options import SourceOptions

ROWS = [(18446744073709551610 + n % 5, f"00{n % 6}", n % 5 + 0.5, n) for n in range(30)]  # ids beyond 63 bits


def read(url: str, **options: str) -> Dataset:
    return load([url], SourceOptions(**options), rng=np.random.default_rng(0), cache=Path("not needed"))


def pairs(dataset: Dataset) -> set[tuple[str, str]]:
    ratings = dataset.ratings
    users, items = ratings.user_ids.to_pylist(), ratings.item_ids.to_pylist()
    return {(users[user], items[item]) for user, item in zip(ratings.users_N, ratings.items_N, strict=True)}


@pytest.fixture
def duckdb_url(tmp_path: Path) -> str:
    with duckdb.connect(str(tmp_path / "ratings.duckdb")) as connection:
        connection.execute("CREATE TABLE ratings (user UBIGINT, item TEXT, rating DECIMAL(3, 1), timestamp TIMESTAMP)")
        connection.executemany("INSERT INTO ratings VALUES (?, ?, ?, make_timestamp(? * 1000000))", ROWS)
    return f"duckdb:///{tmp_path}/ratings.duckdb"


@pytest.fixture
def mysql_url(tmp_path: Path) -> Iterator[str]:
    socket, log = tmp_path / "socket", (tmp_path / "log").open("wb")
    command = ["mariadbd", "--no-defaults", "--user=root", f"--datadir={tmp_path}", f"--socket={socket}"]
    process = subprocess.Popen([*command, "--skip-networking", "--skip-grant-tables"], stdout=log, stderr=log)
    try:
        wait_until(socket.exists, process, log=tmp_path / "log")
        url = f"mysql://root@/{{}}?unix_socket={socket}"
        engine = sa.create_engine(url.format("").replace("mysql:", "mysql+pymysql:"), poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE DATABASE shop"))
            connection.execute(
                sa.text(
                    "CREATE TABLE shop.ratings (user BIGINT UNSIGNED, item VARCHAR(20), rating DECIMAL(3, 1), "
                    "timestamp DATETIME NULL, PRIMARY KEY (user, item))"
                )
            )
            for user, item, rating, at in ROWS:
                when = None if at == 0 else f"1970-01-01 00:00:{at:02}"
                values = {"user": user, "item": item, "rating": rating, "at": when}
                connection.execute(sa.text("INSERT INTO shop.ratings VALUES (:user, :item, :rating, :at)"), values)
        yield url.format("shop")
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.mark.parametrize("options", [{"table": "ratings"}, {"query": "SELECT * FROM ratings"}], ids=["table", "query"])
def test_ratings_can_be_read_from_duckdb(duckdb_url: str, options: dict[str, str]) -> None:
    dataset = read(duckdb_url, **options)
    assert dataset.rows == len(ROWS)
    assert pairs(dataset) == {(str(user), item) for user, item, *_ in ROWS}
    assert dataset.scale == (0.5, 4.5)
    assert dataset.ratings.first_and_last == (0, 29)


@pytest.mark.slow
def test_mysql_by_table_and_by_query_with_a_gap_in_the_times(mysql_url: str) -> None:
    for options in ({"table": "ratings"}, {"query": "SELECT * FROM ratings"}):
        dataset = read(mysql_url, **options)
        assert dataset.rows == len(ROWS)
        assert pairs(dataset) == {(str(user), item) for user, item, *_ in ROWS}
        assert dataset.ratings.first_and_last == (1, 29)


def test_a_query_that_the_database_refuses_is_told_with_its_reason(duckdb_url: str) -> None:
    with pytest.raises(DataError, match=r"duckdb:.*nowhere"):
        read(duckdb_url, query="SELECT * FROM nowhere")


@pytest.mark.parametrize(
    ("url", "package"), [("oracle://h/x", "oracledb"), ("snowflake://h/x", "snowflake-sqlalchemy")]
)
def test_a_driver_that_is_missing_is_named_as_pip_installs_it(url: str, package: str) -> None:
    with pytest.raises(DataError, match=f"pip install {package}"):
        read(url, table="ratings")
