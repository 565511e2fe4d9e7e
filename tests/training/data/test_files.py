"""Folders, patterns, URLs and standard input are files, in the order of their names."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from tests.support import ROOT
from tests.support.reading import read, rows_of
from training.data import files
from training.errors import ConfigError, DataError

FIRST = b"user,item,rating\n1,2,3\n2,3,4\n"
SECOND = b"user,item,rating\n7,2,5\n"
EXPECTED = [("1", "2", 3, None), ("2", "3", 4, None), ("7", "2", 5, None)]


def parquet(rows: list[tuple[str, str, int]]) -> bytes:
    target = io.BytesIO()
    columns = dict(zip(("user", "item", "rating"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table(columns), target, compression="snappy")
    return target.getvalue()


PARTS = {
    "csv": (FIRST, SECOND),
    "parquet": (parquet([("1", "2", 3), ("2", "3", 4)]), parquet([("7", "2", 5)])),
    "jsonl": (
        b'{"user": 1, "item": 2, "rating": 3}\n{"user": 2, "item": 3, "rating": 4}\n',
        b'{"user": 7, "item": 2, "rating": 5}\n',
    ),
}


def as_spark_writes(folder: Path, kind: str) -> Path:
    """Parts, and files beside them that are no parts."""
    folder.mkdir()
    ending = {"parquet": "snappy.parquet"}.get(kind, kind)
    for number, part in enumerate(PARTS[kind]):
        name = f"part-{number:05}-6ba4f2c1-c000.{ending}"
        (folder / name).write_bytes(part)
        (folder / f".{name}.crc").write_bytes(b"crc\0")
    (folder / "_SUCCESS").touch()
    (folder / "._SUCCESS.crc").write_bytes(b"crc")
    return folder


@pytest.mark.parametrize("kind", PARTS)
def test_a_folder_as_spark_writes_it_is_its_parts(tmp_path: Path, kind: str) -> None:
    folder = as_spark_writes(tmp_path / "ratings", kind)
    for source in (folder, f"{folder}/", f"{folder}/part-*", folder.as_uri(), f"{folder.as_uri()}/*.{kind}"):
        assert rows_of(read(source).ratings) == EXPECTED


@pytest.mark.parametrize("kind", PARTS)
def test_a_folder_behind_a_url_is_its_parts(tmp_path: Path, kind: str) -> None:
    store, name = fsspec.filesystem("memory"), f"/{tmp_path.name}-{kind}"
    for path in as_spark_writes(tmp_path / "ratings", kind).iterdir():
        store.pipe(f"{name}/{path.name}", path.read_bytes())
    try:
        for source in (f"memory:/{name}", f"memory:/{name}/part-*.{kind}"):
            assert rows_of(read(source).ratings) == EXPECTED
    finally:
        store.rm(name, recursive=True)


def test_folders_within_a_folder_are_read_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name, content in {"a/1.csv": FIRST, "b/c/2.csv": SECOND, "_temporary/3.csv": b"x", ".git/config": b"x"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert rows_of(read(tmp_path).ratings) == EXPECTED


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "_ratings"
    folder.mkdir(parents=True)
    (folder / "1.csv").write_bytes(FIRST + SECOND.partition(b"\n")[2])
    for source in (folder, folder.as_uri(), folder / "*.csv"):
        assert rows_of(read(source).ratings) == EXPECTED


def test_parts_may_be_of_different_formats_and_columns_in_different_order(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(FIRST)
    (tmp_path / "2.tsv").write_bytes(b"rating\titem\tuser\ttimestamp\n5\t2\t7\t10\n")
    assert rows_of(read(tmp_path).ratings) == [*EXPECTED[:2], ("7", "2", 5, 10)]


@pytest.mark.parametrize("name", ["what?.csv", "all*.csv", "[1].csv", "a b.csv", "50%.csv", "ü.csv", "a#b.csv"])
def test_a_file_whose_name_looks_like_something_else_is_that_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FIRST)
    (tmp_path / "1.csv").write_bytes(SECOND)
    assert rows_of(read(tmp_path / name).ratings) == EXPECTED[:2]


def test_a_part_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(FIRST)
    (tmp_path / "README.md").write_bytes(b"# Ratings\n\nThese are ratings.\n")
    with pytest.raises(DataError, match=r"README\.md: no column user, item, rating"):
        read(tmp_path)


def test_a_pattern_without_files_and_a_folder_of_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    for source in (tmp_path / "*.csv", tmp_path, f"{tmp_path.as_uri()}/*.csv", tmp_path.as_uri()):
        with pytest.raises(DataError, match="no files"):
            read(source)


def test_an_empty_part_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_bytes(FIRST)
    (tmp_path / "2.csv").touch()
    with pytest.raises(DataError, match=r"2\.csv: the file is empty"):
        read(tmp_path)


@pytest.mark.parametrize("source", ["{folder}/ratngs.csv", "file://{folder}/none.csv", "memory://none/none.csv"])
def test_what_is_not_there_is_named(tmp_path: Path, source: str) -> None:
    (tmp_path / "ratings.csv").write_bytes(FIRST)
    with pytest.raises(DataError, match="no such file or folder"):
        read(source.format(folder=tmp_path))


def test_a_file_that_may_not_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(DataError, match=r"loop\.csv"):
        read(tmp_path / "loop.csv")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://ann:s3cret@bucket/ratings.csv", ""),
        ("ftp://ann:s3cret@127.0.0.1:1/ratings.csv", "cannot be read"),
        ("http://ann:s3cret@127.0.0.1:1/ratings.csv", ""),
    ],
)
def test_a_url_that_cannot_be_reached_is_one_line_without_its_password(url: str, message: str) -> None:
    with pytest.raises(DataError, match=message or ".") as caught:
        read(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"separator": ";"}, {"header": False}, {"encoding": "utf-8"}])
def test_options_of_texts_are_refused_for_what_is_none(tmp_path: Path, options: dict[str, object]) -> None:
    (tmp_path / "ratings.parquet").write_bytes(PARTS["parquet"][0])
    with pytest.raises(ConfigError, match="are for texts, but the data is a Parquet file"):
        read(tmp_path / "ratings.parquet", **options)


def test_the_ending_of_a_name_decides_nothing(tmp_path: Path) -> None:
    for name, content in {"a.csv": PARTS["parquet"][0], "b.parquet": FIRST, "c": PARTS["jsonl"][0]}.items():
        (tmp_path / name).write_bytes(content)
        assert rows_of(read(tmp_path / name).ratings) == EXPECTED[:2]


@pytest.mark.parametrize("kind", PARTS)
def test_standard_input_is_read_as_a_file_is(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ratings").write_bytes(PARTS[kind][0])
    program = f"from tests.support.reading import read, rows_of; print(rows_of(read('-').ratings) == {EXPECTED[:2]})"
    with (tmp_path / "ratings").open("rb") as stream:
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdin=stream, capture_output=True, check=False)
    assert (done.stdout.decode().strip(), done.returncode) == ("True", 0)


def test_only_parquet_that_is_not_compressed_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(PARTS["parquet"][0])
    (tmp_path / "b.csv").write_bytes(FIRST)
    assert [files.is_parquet(file) for file in files.found(str(tmp_path))] == [True, False]
