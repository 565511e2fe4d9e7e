"""What every source must do with the same table, whatever format it stands in."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa

from tests.support.reading import rows_of
from training.data.dataset import Dataset, load
from training.errors import DataError
from training.options import SourceOptions

TABLE = pd.DataFrame(
    {
        "user": [21, 7, 21, 300, 7],
        "item": [5, 31, 31, 5, 8],
        "rating": [4.0, 3.5, 1.0, 5.0, 2.5],
        "timestamp": [881250949, 891717742, 878887116, 880606923, -1],
    }
)
THEIRS = {"user": "Kunden Nr.", "item": 'the "item"', "rating": "select", "timestamp": "when; drop table ratings"}

Save = Callable[[pd.DataFrame], tuple[str, str | None]]
"""Writes a table to a new place and returns the source and, for databases, the table to load."""


def csv(folder: Path, ending: str, delimiter: str) -> Save:
    def save(table: pd.DataFrame) -> tuple[str, None]:
        path = folder / f"{uuid4()}{ending}"
        content = table.to_csv(index=False, sep=delimiter).encode()
        path.write_bytes(COMPRESSED.get(path.suffix, bytes)(content))
        return str(path), None

    return save


def without_header(folder: Path, name: str, delimiter: str) -> Save:
    def save(table: pd.DataFrame) -> tuple[str, None]:
        path = folder / str(uuid4()) / name
        path.parent.mkdir()
        rows = table[[name for name in TABLE.columns if name in table]].itertuples(index=False)
        path.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in rows))
        return str(path), None

    return save


def parquet(folder: Path) -> Save:
    def save(table: pd.DataFrame) -> tuple[str, None]:
        path = folder / f"{uuid4()}.parquet"
        table.to_parquet(path, index=False, row_group_size=2)
        return str(path), None

    return save


def arrow(folder: Path) -> Save:
    def save(table: pd.DataFrame) -> tuple[str, None]:
        path = folder / f"{uuid4()}.arrow"
        content = pa.Table.from_pandas(table, preserve_index=False)
        with pa.ipc.new_file(path, content.schema) as writer:
            writer.write_table(content, max_chunksize=2)
        return str(path), None

    return save


def json_lines(folder: Path) -> Save:
    def save(table: pd.DataFrame) -> tuple[str, None]:
        path = folder / f"{uuid4()}.jsonl"
        table.to_json(path, orient="records", lines=True, date_format="iso")
        return str(path), None

    return save


def folder_of_csv(folder: Path) -> Save:
    """As Spark writes a table: parts with a header each, and files beside them that are no parts."""

    def save(table: pd.DataFrame) -> tuple[str, None]:
        path = folder / str(uuid4())
        path.mkdir()
        for number, start in enumerate(range(0, max(len(table), 1), 2)):
            table.iloc[start : start + 2].to_csv(path / f"part-{number:05}.csv", index=False)
            (path / f".part-{number:05}.csv.crc").write_bytes(b"crc")
        (path / "_SUCCESS").touch()
        return str(path), None

    return save


def database(url: str) -> Save:
    def save(table: pd.DataFrame) -> tuple[str, str]:
        name = f'Ratings of "{uuid4()}"'
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
        with engine.begin() as connection:
            table.to_sql(name, connection, index=False)
        return url, name

    return save


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}
NAMED = [
    "csv",
    "tsv",
    "csv.gz",
    "tsv.gz",
    "csv.zst",
    "json lines",
    "parquet",
    "arrow",
    "folder",
    "sqlite",
    "postgresql",
]
POSITIONAL = ["u.data", "ratings.dat"]


@pytest.fixture
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Save:
    kind = request.param
    if kind in POSITIONAL:
        return without_header(tmp_path, kind, "\t" if kind == "u.data" else "::")
    if kind == "parquet":
        return parquet(tmp_path)
    if kind == "arrow":
        return arrow(tmp_path)
    if kind == "json lines":
        return json_lines(tmp_path)
    if kind == "folder":
        return folder_of_csv(tmp_path)
    if kind == "sqlite":
        path = tmp_path / "ratings.sqlite"
        path.write_bytes(b"")
        return database(f"sqlite:///{path}")
    if kind == "postgresql":
        return database(request.getfixturevalue("postgres_url"))
    return csv(tmp_path, f".{kind}", "," if kind.startswith("csv") else "\t")


every_source = pytest.mark.parametrize("save", NAMED + POSITIONAL, indirect=True)
every_source_with_names = pytest.mark.parametrize("save", NAMED, indirect=True)


def loaded(
    save: Save, table: pd.DataFrame, columns: Mapping[str, str] | None = None, *, fitted: bool = True
) -> Dataset:
    source, name = save(table)
    return load(
        [source],
        SourceOptions(table=name, columns=columns or {}),
        rng=np.random.default_rng(0),
        cache=Path("not needed"),
        fitted=fitted,
    )


def frame(dataset: Dataset) -> pd.DataFrame:
    ratings = dataset.ratings
    return pd.DataFrame(
        {
            "user": np.array(ratings.user_ids.to_pylist())[ratings.users_N],
            "item": np.array(ratings.item_ids.to_pylist())[ratings.items_N],
            "rating": ratings.ratings_N,
            **({} if ratings.timestamps_N is None else {"timestamp": ratings.timestamps_N}),
        }
    )


@every_source
def test_every_source_gives_the_same_dataset(save: Save) -> None:
    dataset = loaded(save, TABLE)
    expected = TABLE.astype({"user": str, "item": str, "rating": np.float32})
    pd.testing.assert_frame_equal(frame(dataset), expected)
    assert dataset.ratings.user_ids.to_pylist() == ["21", "7", "300"]
    assert dataset.ratings.item_ids.to_pylist() == ["5", "31", "8"]
    assert dataset.fingerprint == "6bdcfbd8f411b54171eb469c67b2ca8d72df6e4f875f72a9a5611ccfecb5d1c0"
    assert (dataset.duplicates, dataset.items, dataset.users) == (0, None, None)


@every_source
def test_timestamps_may_be_absent(save: Save) -> None:
    dataset = loaded(save, TABLE.drop(columns="timestamp"))
    assert dataset.ratings.timestamps_N is None
    assert len(dataset.ratings) == len(TABLE)


@every_source
def test_the_latest_rating_of_a_pair_wins_and_the_rest_keep_their_order(save: Save) -> None:
    repeated = pd.concat([TABLE.assign(rating=1.0, timestamp=TABLE.timestamp - 1), TABLE, TABLE.iloc[:1]])
    dataset = loaded(save, repeated)
    assert dataset.duplicates == len(TABLE) + 1
    order = [1, 2, 3, 4, 0]  # the last row of the tie for the first pair wins
    expected = TABLE.iloc[order].reset_index(drop=True).astype({"user": str, "item": str, "rating": np.float32})
    pd.testing.assert_frame_equal(frame(dataset), expected)
    assert dataset.fingerprint == loaded(save, TABLE.iloc[order]).fingerprint


@every_source
def test_an_earlier_row_wins_if_it_is_later_in_time(save: Save) -> None:
    older = TABLE.iloc[:1].assign(rating=1.0, timestamp=5)
    dataset = loaded(save, pd.concat([TABLE, older]))
    assert (dataset.duplicates, dataset.fingerprint) == (1, loaded(save, TABLE).fingerprint)


@every_source
def test_the_last_row_of_a_pair_wins_without_timestamps(save: Save) -> None:
    table = TABLE.drop(columns="timestamp")
    dataset = loaded(save, pd.concat([table.iloc[:2].assign(rating=1.0), table]))
    assert (dataset.duplicates, dataset.fingerprint) == (2, loaded(save, table).fingerprint)


@every_source
def test_ids_may_be_words_with_non_ascii_letters(save: Save) -> None:
    table = TABLE.assign(user=["zoë", "b c", "zoë", "日本", "b c"])
    assert loaded(save, table).ratings.user_ids.to_pylist() == ["zoë", "b c", "日本"]


@every_source_with_names
def test_columns_stand_in_any_order_among_others(save: Save) -> None:
    others = TABLE.assign(comment='good, "really"', rated_on=pd.Timestamp(0), seen=True)
    dataset = loaded(save, others[["seen", "timestamp", "comment", "rating", "item", "rated_on", "user"]])
    assert dataset.fingerprint == loaded(save, TABLE).fingerprint


@every_source_with_names
def test_columns_may_be_renamed(save: Save) -> None:
    dataset = loaded(save, TABLE.rename(columns=THEIRS), THEIRS)
    assert dataset.fingerprint == loaded(save, TABLE).fingerprint


@every_source_with_names
def test_whole_float_ids_are_those_of_the_integers(save: Save) -> None:
    dataset = loaded(save, TABLE.astype({"user": float, "item": float}))
    assert dataset.fingerprint == loaded(save, TABLE).fingerprint


@every_source_with_names
def test_iso_times_are_converted_to_seconds(save: Save) -> None:
    times = pd.to_datetime(TABLE.timestamp, unit="s")
    assert loaded(save, TABLE.assign(timestamp=times)).fingerprint == loaded(save, TABLE).fingerprint


@every_source_with_names
def test_a_missing_column_is_named_beside_those_found(save: Save) -> None:
    with pytest.raises(DataError, match=r"no column item; found user, thing, rating, timestamp \(use --columns"):
        loaded(save, TABLE.rename(columns={"item": "thing"}))


@every_source_with_names
def test_a_renamed_column_that_is_missing_is_named_as_the_source_has_it(save: Save) -> None:
    with pytest.raises(DataError, match="no column when; found"):
        loaded(save, TABLE, {"timestamp": "when"})


@every_source_with_names
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rating", "good", "rating 'good' is not a"),
        ("rating", None, "rating is missing"),
        ("rating", float("inf"), "rating inf is not a finite number"),
        ("user", None, "user is missing"),
        ("item", " ", "item is missing"),
        ("timestamp", "yesterday", "timestamp 'yesterday' is neither a number nor an ISO 8601 time"),
    ],
)
def test_a_bad_value_is_named_by_its_row(
    save: Save, column: str, value: Any, message: str, request: pytest.FixtureRequest
) -> None:
    table = TABLE.copy()
    texts = value is not None and not isinstance(value, float)
    table[column] = table[column].astype("str" if texts else "Float64")
    table.loc[2, column] = value
    if value == float("inf") and request.node.callspec.params["save"] == "json lines":
        message = "rating is missing"  # pandas writes null for it
    with pytest.raises(DataError, match=rf"(row 3|line 4|jsonl: line 3|part-00001.csv: line 2): {message}"):
        loaded(save, table)


@every_source_with_names
def test_a_rating_without_a_time_is_older_than_those_with_one(save: Save) -> None:
    some = TABLE.astype({"timestamp": "Int64"})
    some.loc[[0, 3], "timestamp"] = None
    dataset = loaded(save, pd.concat([some, some.iloc[:2].assign(rating=1.0, timestamp=None)]))
    times = [time for *_, time in rows_of(dataset.ratings)]
    assert times == [891717742, 878887116, None, -1, None]
    assert [rating for _, _, rating, _ in rows_of(dataset.ratings)] == [3.5, 1, 5, 2.5, 1]


@every_source_with_names
@pytest.mark.parametrize("unit", [1_000, 1_000_000, 1_000_000_000])
def test_times_may_count_smaller_units_than_seconds(save: Save, unit: int) -> None:
    positive = TABLE.assign(timestamp=TABLE.timestamp.abs() + 10**9)
    assert (
        loaded(save, positive.assign(timestamp=positive.timestamp * unit)).fingerprint
        == loaded(save, positive).fingerprint
    )


@every_source
def test_a_table_without_rows_is_refused(save: Save) -> None:
    with pytest.raises(DataError, match=r"no ratings|the file is empty"):
        loaded(save, TABLE.iloc[:0])


@every_source
@pytest.mark.parametrize("column", ["user", "item"])
def test_a_single_user_or_item_is_refused_where_a_model_is_fitted(save: Save, column: str) -> None:
    single = TABLE.assign(**{column: 1}).drop_duplicates(["user", "item"])
    with pytest.raises(DataError, match=f"all ratings are of a single {column}"):
        loaded(save, single)
    assert len(loaded(save, single, fitted=False).ratings) == len(single)
