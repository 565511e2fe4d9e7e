"""Folders, patterns, URLs and standard input are files, in the order of their names."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import logging
import lzma
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather
from pyarrow import parquet as pq

from tests.support import ROOT
from tests.support.reading import read, read_files, rows_of
from training.data import files
from training.data.dataset import load, shown_name
from training.errors import ConfigError, DataError
from training.options import SourceOptions

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


@pytest.mark.parametrize(
    "kind", ["csv", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("parquet", "jsonl"))]
)
def test_standard_input_is_read_as_a_file_is(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ratings").write_bytes(PARTS[kind][0])
    program = f"from tests.support.reading import read, rows_of; print(rows_of(read('-').ratings) == {EXPECTED[:2]})"
    with (tmp_path / "ratings").open("rb") as stream:
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdin=stream, capture_output=True, check=False)
    assert (done.stdout.decode().strip(), done.returncode) == ("True", 0)


NUMBERS = [(196.0, "196"), (1.50, "1.5"), (1e3, "1000"), (1e-7, "0.0000001"), (2.0**53 - 1, str(2**53 - 1)), (7, "7")]


@pytest.mark.parametrize(("number", "text"), NUMBERS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "sqlite"])
def test_an_id_that_is_a_number_is_the_same_in_files_of_all_kinds(
    tmp_path: Path, number: float, text: str, kind: str
) -> None:
    """As in requests; see `test_a_number_is_its_decimal_digits_in_every_encoding`."""
    table, path = pa.table({"user": [number], "item": ["x"], "rating": [3]}), tmp_path / "ratings"
    if kind == "jsonl":
        path.write_text(f'{{"user": {number!r}, "item": "x", "rating": 3}}')
    elif kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        feather.write_feather(table, path)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE ratings (user REAL, item TEXT, rating REAL)")
            connection.execute("INSERT INTO ratings VALUES (?, 'x', 3), ('x', 'x', 3)", [number])
        options = SourceOptions(table="ratings")
        dataset = load([f"sqlite:///{path}"], options, rng=np.random.default_rng(0), cache=tmp_path, fitted=False)
        assert dataset.ratings.user_ids[0].as_py() == text
        return
    assert rows_of(read(path).ratings) == [(text, "x", 3, None)]


@pytest.mark.parametrize("number", [2.0**53, -1e300, float("inf")])
def test_a_float_that_may_have_lost_digits_is_no_id(tmp_path: Path, number: float) -> None:
    pq.write_table(pa.table({"user": [number], "item": ["x"], "rating": [3]}), tmp_path / "ratings")
    with pytest.raises(DataError, match="column user: an id is a number that a float does not hold: give it as a text"):
        read(tmp_path / "ratings")


def test_a_gap_that_json_writes_as_nan_is_missing(tmp_path: Path) -> None:
    for name in ("user", "rating"):
        row = json.dumps({"user": 1, "item": 2, "rating": 3} | {name: float("nan")})
        (tmp_path / "ratings").write_text(f"{row}\n")
        with pytest.raises(DataError, match=f"line 1: {name} is missing"):
            read(tmp_path / "ratings")


@pytest.mark.parametrize("mark", ["/", "?", "#", "@", ":", "%2F", "//", "[", "\u212a"])
@pytest.mark.parametrize(
    "url", ["http://ann:{}@127.0.0.1:1/r.csv", "s3://ann:{}@bucket/r.csv", "ftp://ann:{}@127.0.0.1:1"]
)
def test_no_part_of_a_password_is_shown_whatever_is_in_it(
    url: str, mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = url.format(f"QZX{mark}QZX")
    with caplog.at_level(logging.INFO), pytest.raises((DataError, ConfigError)) as caught:
        load([source], rng=np.random.default_rng(0), cache=Path("not needed"))
    assert "QZX" not in f"{caught.value}{caplog.text}{shown_name([source], SourceOptions())}"


COMPRESSED = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_error_of_the_disk_within_a_file_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, compression: str
) -> None:
    content = COMPRESSED[compression](many(kind))
    path = tmp_path / "ratings"
    path.write_bytes(content)
    monkeypatch.setattr(FailingDisk, "most", len(content) // 2)
    monkeypatch.setattr(files.io, "FileIO", FailingDisk)
    (found,) = files.found(str(path))
    with pytest.raises(DataError) as caught:
        read_files([replace(found, path=None)], SourceOptions())
    assert str(caught.value) == f"{path}: cannot be read (Input/output error)"


def many(kind: str) -> bytes:
    """Ratings that no compression makes small."""
    rng = np.random.default_rng(0)
    table = pa.table({"user": rng.integers(1 << 60, size=20_000), "item": rng.integers(1 << 60, size=20_000)})
    table = table.append_column("rating", pa.array(rng.integers(1, 6, 20_000)))
    if kind == "parquet":
        target = io.BytesIO()
        pq.write_table(table, target)
        return target.getvalue()
    if kind == "csv":
        return b"user,item,rating\n" + b"".join(b"%d,%d,%d\n" % tuple(row.values()) for row in table.to_pylist())
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


class FailingDisk(io.FileIO):
    """A file whose disk cannot be read behind its first `most` bytes."""

    most = 0

    def readinto(self, buffer: Any) -> int:
        here = self.tell()
        if here >= self.most:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().readinto(memoryview(buffer)[: self.most - here])


def test_a_file_that_the_system_cannot_read_is_one_line(tmp_path: Path) -> None:
    """The memory of a process is a file, and its first bytes are an error of input and output."""
    (tmp_path / "ratings.csv").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"ratings.csv: cannot be read \(Input/output error\)"):
        read(tmp_path / "ratings.csv")


def test_only_parquet_that_is_not_compressed_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(PARTS["parquet"][0])
    (tmp_path / "b.csv").write_bytes(FIRST)
    assert [files.is_parquet(file) for file in files.found(str(tmp_path))] == [True, False]
