"""Reads a table of a database in chunks, with a server-side cursor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Inspector
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from models import ids
from models.did_you_mean import did_you_mean
from models.urls import has_ambiguous_password, masked, without_credentials
from training.data.origin import Origin, Selection
from training.data.validation import Part
from training.errors import DataError
from training.options import SourceOptions

CHUNK_ROWS = 100_000
CONNECT_SECONDS = 5
DRIVERS = {  # if SQLAlchemy would choose another one, or none
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
PACKAGES = {
    "postgresql": "'psycopg[binary]'",
    "mysql": "pymysql",
    "mariadb": "pymysql",
    "duckdb": "duckdb-engine",
    "mssql": "pyodbc",
    "oracle": "oracledb",
    "snowflake": "snowflake-sqlalchemy",
    "bigquery": "sqlalchemy-bigquery",
    "redshift": "sqlalchemy-redshift",
    "trino": "trino",
    "clickhouse": "clickhouse-sqlalchemy",
    "databricks": "databricks-sqlalchemy",
}


@contextmanager
def opened(url: str, options: SourceOptions) -> Iterator[Part]:
    """The ratings in a table or view, in the order of its primary key, or those that a query selects, in its order.

    `url` is an SQLAlchemy URL. Raises DataError, without the password, if the database cannot be reached, has no such
    table, columns or ratings, or refuses the query.
    """
    with connected(url) as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=CHUNK_ROWS)
        if options.table is None:
            rows, origin = streaming.execute(sa.text((options.query or "").replace(":", r"\:"))), Origin("the query")
            if not rows.returns_rows:
                raise origin.error("it gives no rows: give a SELECT of the ratings")
            chosen = Selection(renamed=options.columns).of(list(rows.keys()), origin)
            rows = rows.columns(*chosen.values())
        else:
            origin = Origin(options.table)
            query, chosen = _query(connection, options.table, options.columns, origin)
            rows = streaming.execute(query)
        with rows:
            parts = (list(map(_array, zip(*part, strict=True))) for part in rows.partitions())
            yield (pa.RecordBatch.from_arrays(part, list(chosen)) for part in parts), origin


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection whose errors become a DataError without the password."""
    address = _address(url)
    try:
        waits = {"connect_timeout": CONNECT_SECONDS} if address.get_backend_name() == "postgresql" else {}
        with sa.create_engine(address, connect_args=waits, poolclass=sa.NullPool).connect() as connection:
            yield connection
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        kind = address.get_backend_name()
        package = PACKAGES.get(kind, f"the SQLAlchemy dialect of {kind}")
        raise DataError(
            f"{without_credentials(address)}: the driver is missing: pip install {package} ({error})"
        ) from error
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        secrets = [address.password, *(value for key, value in address.query.items() if key.endswith("password"))]
        raise DataError(f"{without_credentials(address)}: {masked(reason, secrets)}") from error


def _address(url: str) -> URL:
    if has_ambiguous_password(url):
        raise DataError("the database URL has more than one @: write the characters @ : / of a password as %40 %3A %2F")
    try:
        address = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DataError(
            "the database URL cannot be read; it should look like DRIVER://USER:PASSWORD@HOST/NAME"
        ) from error
    address = address.set(drivername=DRIVERS.get(address.drivername, address.drivername))
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").is_file():
        raise DataError(f"{address.database or ':memory:'}: no such SQLite file")
    return address


def _query(
    connection: Connection, table: str, columns: Mapping[str, str], origin: Origin
) -> tuple[sa.Select[*tuple[Any, ...]], dict[str, str]]:
    """The SELECT of the chosen columns, and these columns."""
    inspector = sa.inspect(connection)
    name, schema = _found_table(inspector, table)
    relation = sa.table(sa.quoted_name(name, quote=True), schema=schema and sa.quoted_name(schema, quote=True))
    with connection.execute(sa.select(sa.text("*")).select_from(relation).limit(0)) as nothing:
        chosen = Selection(renamed=columns).of(list(nothing.keys()), origin)
    query = sa.select(*map(_quoted, chosen.values())).select_from(relation)
    return query.order_by(*map(_quoted, _primary_key(connection, name, schema))), chosen


def _primary_key(connection: Connection, name: str, schema: str | None) -> list[str]:
    """The columns of the primary key; empty if the dialect does not know it."""
    try:
        return sa.inspect(connection).get_pk_constraint(name, schema)["constrained_columns"]
    except (NotImplementedError, DBAPIError):
        connection.rollback()
        return []


def _quoted(column: str) -> sa.ColumnClause[object]:
    return sa.column(sa.quoted_name(column, quote=True))


def _found_table(inspector: Inspector, table: str) -> tuple[str, str | None]:
    """(name, schema) of the table or view. A dot separates them, unless a table has that very name."""
    schema, dot, name = table.partition(".")
    if table in _relations(inspector, None):
        return table, None
    if dot and schema in inspector.get_schema_names() and name in _relations(inspector, schema):
        return name, schema
    relations = sorted(_relations(inspector, None))
    hint, found = did_you_mean(table, relations), ", ".join(relations) or "none"
    raise DataError(f"no table {table}; found {found} (--table SCHEMA.TABLE for another schema){hint}")


def _relations(inspector: Inspector, schema: str | None) -> list[str]:
    return [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]


def _array(values: Sequence[object]) -> pa.Array:
    """The values as an Arrow array; values of mixed types, which SQLite allows, become texts."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _text(value) for value in values])


def _text(value: object) -> str:
    return ids.of_number(value) if isinstance(value, float | Decimal) else str(value)
