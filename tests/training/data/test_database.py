import socket
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.postgres import postgres as server
from tests.support.reading import rows_of
from training.cli.program import quiet_libraries
from training.data import database
from training.data.validation import Checked, checked
from training.errors import DataError
from training.options import SourceOptions


def read(url: str, table: str | None, columns: Mapping[str, str] | None = None, **options: Any) -> Checked:
    with database.opened(url, SourceOptions(table=table, columns=columns or {}, **options)) as part:
        return checked([[part]])


def sqlite(path: Path, *statements: str) -> str:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


RATINGS = (
    "CREATE TABLE ratings (user, item, rating, timestamp)",
    "INSERT INTO ratings VALUES (21, 5, 4, 10), (7, 31, 3.5, 20), (21, 31, 1, 30)",
)


def postgres(url: str, *statements: str) -> str:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    return url


def test_sqlite_columns_of_mixed_types_are_read(tmp_path: Path) -> None:
    url = sqlite(
        tmp_path / "r.db",
        "CREATE TABLE ratings (user, item, rating, timestamp)",
        "INSERT INTO ratings VALUES (21, 5, 4, 10), ('a', 5.0, '3.5', '1970-01-01 00:00:20'), (21.0, 'b', 1, 30.5)",
    )
    ratings = read(url, "ratings").ratings
    assert ratings.user_ids.to_pylist() == ["21", "a"]
    assert ratings.item_ids.to_pylist() == ["5", "b"]
    assert ratings.ratings_N.tolist() == [4, 3.5, 1]
    assert ratings.timestamps_N is not None
    assert ratings.timestamps_N.tolist() == [10, 20, 30]


def test_types_may_change_from_chunk_to_chunk(tmp_path: Path) -> None:
    rows = database.CHUNK_ROWS + 1
    url = sqlite(
        tmp_path / "r.db",
        "CREATE TABLE ratings (user, item, rating)",
        f"INSERT INTO ratings VALUES {', '.join(f'({row % 100}, {row // 100}, 3)' for row in range(rows - 1))}",  # noqa: S608
        "INSERT INTO ratings VALUES ('late', 'later', 4.5)",
    )
    ratings = read(url, "ratings").ratings
    assert (len(ratings), ratings.user_ids[-1].as_py(), ratings.item_ids[-1].as_py()) == (rows, "late", "later")
    assert ratings.ratings_N[-2:].tolist() == [3, 4.5]


def test_rows_come_in_the_order_of_the_primary_key(tmp_path: Path) -> None:
    url = sqlite(
        tmp_path / "r.db",
        "CREATE TABLE ratings (user TEXT, item TEXT, rating REAL, PRIMARY KEY (user, item))",
        "INSERT INTO ratings VALUES ('b', 'y', 1), ('a', 'y', 2), ('b', 'x', 3)",
    )
    assert read(url, "ratings").ratings.ratings_N.tolist() == [2, 3, 1]


def test_a_view_is_as_good_as_a_table(tmp_path: Path) -> None:
    url = sqlite(tmp_path / "r.db", *RATINGS, "CREATE VIEW early AS SELECT * FROM ratings WHERE timestamp < 30")
    assert len(read(url, "early").ratings) == 2


def test_postgresql_types_are_read(postgres_url: str) -> None:
    url = postgres(
        postgres_url,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.ratings (customer uuid, item numeric, rating numeric(3, 1), at timestamptz)",
        "INSERT INTO shop.ratings VALUES ('c7e82e2e-3a14-496e-8180-f173860b0dfb', 5, 3.5, '1970-01-01 01:00:10+01'), "
        "('00000000-0000-0000-0000-000000000001', 5.5, 4, '1970-01-01 00:00:20+00')",
    )
    ratings = read(url, "shop.ratings", {"user": "customer", "timestamp": "at"}).ratings
    assert ratings.user_ids.to_pylist() == [
        "c7e82e2e-3a14-496e-8180-f173860b0dfb",
        "00000000-0000-0000-0000-000000000001",
    ]
    assert ratings.item_ids.to_pylist() == ["5", "5.5"]
    assert ratings.ratings_N.tolist() == [3.5, 4]
    assert ratings.timestamps_N is not None
    assert ratings.timestamps_N.tolist() == [10, 20]


def test_a_table_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    url = sqlite(tmp_path / "r.db", *RATINGS, "CREATE TABLE users (id)")
    with pytest.raises(DataError, match="no table rating; found ratings, users"):
        read(url, "rating")
    with pytest.raises(DataError, match=r"no table shop\.ratings; found ratings, users"):
        read(url, "shop.ratings")
    with pytest.raises(DataError, match="found none"):
        read(sqlite(tmp_path / "new.db", "CREATE TABLE a (b)", "DROP TABLE a"), "ratings")


def test_a_column_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ratings: no column stars; found user, item, rating, timestamp"):
        read(sqlite(tmp_path / "r.db", *RATINGS), "ratings", {"rating": "stars"})


def test_names_are_quoted_not_pasted(tmp_path: Path) -> None:
    url = sqlite(tmp_path / "r.db", *RATINGS)
    with pytest.raises(DataError, match="no table"):
        read(url, "ratings; DROP TABLE ratings")
    assert len(read(url, "ratings").ratings) == 3


def test_a_sqlite_file_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such SQLite file"):
        read(f"sqlite:///{tmp_path}/missing.db", "ratings")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=":memory:: no such SQLite file"):
        read("sqlite://", "ratings")


def test_what_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ratings.db"
    path.write_text("user,item,rating\n" * 100)
    with pytest.raises(DataError, match="file is not a database"):
        read(f"sqlite:///{path}", "ratings")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_an_unreachable_server_is_named_without_the_password(scheme: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}/shop"
        with pytest.raises(DataError) as caught:
            read(f"{scheme}://ann:s3cret@{place}", "ratings")
    assert str(caught.value).startswith(f"postgresql://{place}: connection failed")
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_query_is_kept_secret_too(postgres_url: str) -> None:
    url = f"{postgres_url}&user=s3cret&password=s3cret"
    with pytest.raises(DataError) as caught:
        read(url, "ratings")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://host/name", "the driver is missing: pip install the SQLAlchemy dialect of nosuch"),
        ("://", "the database URL cannot be read"),
        ("postgresql://host:port/name", "the database URL cannot be read"),
    ],
)
def test_a_url_that_is_none_says_so(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(url, "ratings")


def test_a_query_gives_its_rows_in_its_order(tmp_path: Path) -> None:
    url = sqlite(tmp_path / "r.db", *RATINGS)
    query = "SELECT user AS who, item, rating * 2 AS rating, timestamp FROM ratings WHERE rating > 1 ORDER BY rating"
    ratings = read(url, None, {"user": "who"}, query=query).ratings
    assert rows_of(ratings) == [("7", "31", 7, 20), ("21", "5", 8, 10)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT user, item FROM ratings", "the query: no column rating; found user, item"),
        ("SELECT user, item, rating FROM nowhere", "no such table: nowhere"),
        ("SELEC user", "syntax error"),
        ("SELECT user, item, rating, rating FROM ratings", "the query: more than one column rating"),
        ("SELECT user, item, rating FROM ratings WHERE 1 = 0", "the query: no ratings"),
        ("SELECT user, item, NULL AS rating FROM ratings", "the query: row 1: rating is missing"),
        ("DELETE FROM ratings", "the query: it gives no rows: give a SELECT of the ratings"),
        ("", "the query: it gives no rows: give a SELECT of the ratings"),
    ],
)
def test_what_is_wrong_with_a_query_is_one_line(tmp_path: Path, query: str, message: str) -> None:
    url = sqlite(tmp_path / "r.db", *RATINGS)
    with pytest.raises(DataError, match=message) as caught:
        read(url, None, query=query)
    assert "\n" not in str(caught.value)
    assert len(read(url, "ratings").ratings) == 3


def test_a_colon_in_a_query_is_no_parameter(tmp_path: Path) -> None:
    url = sqlite(tmp_path / "r.db", *RATINGS)
    query = "SELECT 'a:b' || user AS user, item, rating FROM ratings WHERE ':x' <> user"
    assert read(url, None, query=query).ratings.user_ids.to_pylist() == ["a:b21", "a:b7"]


@pytest.mark.parametrize("password", ["p@ss", "p@ss:w/rd", "a@b@c", "p@ss?word"])
def test_an_at_sign_in_a_password_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(DataError, match="more than one @: write the characters @ : / of a password as %40") as caught:
        read(f"postgresql://ann:{password}@127.0.0.1:1/shop", "ratings")
    shown = str(caught.value).replace("password", "")
    assert not any(part in shown for part in ("ss", "127.0.0.1", "b@c", "ann"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the cursor cannot be closed any more
@pytest.mark.parametrize("ended", ["stopped", "killed"])
def test_a_server_that_goes_before_its_rows_are_closed_leaves_no_traceback(
    ended: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    quiet_libraries()
    with server() as ours:
        table = "CREATE TABLE ratings AS SELECT u AS user, u AS item, 3 AS rating FROM generate_series(1, 9) u"
        url = postgres(ours.url, table)
        with suppress(DataError), database.opened(url, SourceOptions(table="ratings")) as (parts, _):
            assert len(next(iter(parts))) == 9
            ours.stop() if ended == "stopped" else ours.kill()
    assert "Traceback" not in caplog.text
