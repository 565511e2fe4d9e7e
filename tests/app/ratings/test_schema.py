"""A database becomes a store, or is refused in one line, and nothing of it is touched."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.ratings import schema
from app.ratings.errors import StoreUnavailableError, StoreUnusableError
from app.ratings.tables import HEAD, VERSION_TABLE, metadata


def prepare(url: str) -> None:
    schema.prepare(schema.address(url))


def tables(database: sa.Engine) -> set[str]:
    return set(sa.inspect(database).get_table_names())


def test_the_tables_are_made_and_are_those_of_the_code(store_url: str, database: sa.Engine) -> None:
    prepare(store_url)
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": False})
        assert compare_metadata(context, metadata) == []
        assert connection.execute(sa.text("SELECT revision FROM ratecast_store")).scalar_one() == 0


def test_stored_ratings_stay_when_the_tables_are_prepared_again(store_url: str, database: sa.Engine) -> None:
    prepare(store_url)
    with database.begin() as connection:
        connection.execute(sa.text("""INSERT INTO ratings VALUES ('u', 'i', 4.5, 7)"""))
        before = connection.execute(sa.text("SELECT id FROM ratecast_store")).scalar_one()
    prepare(store_url)
    with database.connect() as connection:
        assert [tuple(row) for row in connection.execute(sa.text("SELECT * FROM ratings"))] == [("u", "i", 4.5, 7)]
        assert connection.execute(sa.text("SELECT id FROM ratecast_store")).scalar_one() == before


def test_the_newest_migration_is_the_one_the_code_names() -> None:
    with resources.as_file(resources.files("app.ratings") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder))
        assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_many_who_prepare_at_once_make_one_store(store_url: str, database: sa.Engine) -> None:
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(prepare, store_url) for _ in range(6)]:
            done.result()
    with database.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM ratecast_store")).scalar_one() == 1


def test_a_schema_of_a_newer_release_is_refused(store_url: str, database: sa.Engine) -> None:
    prepare(store_url)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE ratecast_version SET version_num = '9999'"))
    with pytest.raises(StoreUnusableError, match=r"written by a newer release: schema 9999 instead of \d{4}$"):
        prepare(store_url)


def test_a_table_that_is_not_ours_is_refused_and_left_alone(store_url: str, database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE ratings (stars integer)"))
        connection.execute(sa.text("INSERT INTO ratings VALUES (5)"))
    with pytest.raises(StoreUnusableError, match="has a table ratings of another program"):
        prepare(store_url)
    assert tables(database) == {"ratings"}
    with database.connect() as connection:
        assert connection.execute(sa.text("SELECT stars FROM ratings")).scalar_one() == 5


def test_tables_of_others_beside_ours_do_not_matter(store_url: str, database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE invoices (number integer)"))
    prepare(store_url)
    assert {"invoices", "ratings"} < tables(database)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:", "postgresql://h:port/name"]
)
def test_a_url_that_is_not_of_a_store_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StoreUnusableError) as refused:
        schema.address(url)
    assert "\n" not in str(refused.value)


AMBIGUOUS = [
    "postgresql://shop:s3cr@et@127.0.0.1:1/x",
    "postgresql://shop:s3@cr@et@127.0.0.1/x",
    "postgres://shop:s3cr:3t@et@127.0.0.1:1/x?sslmode=disable",
    "postgresql+psycopg://shop:s3/cr@et@127.0.0.1/x",
    "postgresql://shop:s3?cr@et@127.0.0.1:1/x",
    "postgresql://shop@corp:s3cret@127.0.0.1/x",
]


@pytest.mark.parametrize("url", AMBIGUOUS)
@pytest.mark.parametrize("flags", [(), ("--check",), ("--workers", "2")])
def test_an_unencoded_at_sign_in_a_password_ends_the_start_with_a_line_without_any_of_it(
    refusal: Callable[..., str], checkpoints: Path, url: str, flags: tuple[str, ...]
) -> None:
    line = refusal("--checkpoints", str(checkpoints), *flags, store=url)
    assert "write the characters @ : / of a password as %40" in line
    assert not any(part in line for part in ("s3", "cr", "et@", "127.0.0.1", "shop"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://shop:s3cr%40et%3A%2F@host/x",
        "postgresql://shop:s3:cr/et@host/x",
        "postgresql://host/x?user=shop@corp&application_name=a@b",
        "sqlite:////data/a@b/c@d.sqlite",
    ],
)
def test_other_urls_with_such_characters_are_read(url: str) -> None:
    assert schema.address(url).host in ("host", None)


@pytest.mark.parametrize("url", ["postgresql://me:se%20cret@127.0.0.1:1/name", "sqlite:////nowhere/at/all.sqlite"])
def test_a_database_that_does_not_answer_is_away_and_no_message_has_the_password(url: str) -> None:
    with pytest.raises(StoreUnavailableError) as away:
        prepare(url)
    assert "cret" not in str(away.value)
    assert "\n" not in str(away.value)
