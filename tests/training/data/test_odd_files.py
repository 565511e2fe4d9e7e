"""Files as they come out of other programs: read right, or refused with the line and what to do."""

from __future__ import annotations

import io
import logging
import tarfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from tests.support.reading import read, rows_of
from training.data import byte_stream
from training.data.dataset import load
from training.data.summary import summary
from training.errors import DataError
from training.options import SourceOptions

U = "user,item,rating\n"
HASHES = "00000c289a1829a8\t3bd73256-3905\tbetty blowtorch\t2137\n00001411dc427966\tf2fb0ff0-5679\tdie “Ärzte”\t1099\n"


def tar(content: bytes) -> bytes:
    target, member = io.BytesIO(), tarfile.TarInfo("ratings.csv")
    member.size = len(content)
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def workbook() -> bytes:
    target = io.BytesIO()
    with ZipFile(target, "w") as archive:
        for name in ("[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"):
            archive.writestr(name, "<x/>")
    return target.getvalue()


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "Excel's own first line": ("sep=;\nuser;item;rating\n1;2;3\n", "line 2 has the names of the columns: delete what"),
    "comments before the names": (f"# made by me\n\n# today\n{U}1,2,3\n", "line 4 has the names of the columns"),
    "a title with commas": (f"Ratings, all of them, 2020\n{U}1,2,3\n", "line 2: rating 'rating' is not a number"),
    "the names again": (f"{U}1,2,3\n{U}2,3,4\n", "line 3: the names of the columns stand there again: delete the line"),
    "a total": (f"{U}1,2,3\n2,3,4\nTotal,,7\n", "line 4: item is missing"),
    "a note at the end": (f"{U}1,2,3\n\n(1 rows affected)\n", "line 4: 1 fields where the first line has 3"),
    "a row that is not recognised": (
        HASHES,
        "no column user, .*first line seems to be a row: .* such as --columns user=1,item=2,rating",
    ),
    "the rating first": (
        "5,ann,dune\n3,bob,emma\n",
        "no column user, item, rating; the first line seems to be a row: 5, ann, dune",
    ),
    "a pivot without names": (
        "\n".join(["5,99,99,99,1.5,3,2"] * 5),
        "7 numbers without names: .*turned into rows",
    ),
    "a pivot whose items are numbers": (
        "user,11,12,13\n1,5,3,2\n2,1,2,4\n",
        "line 1, user, 11, 12, 13, seems to",
    ),
    "percent": (f"{U}1,2,80%\n", "line 2: rating '80%' is not a number; write ratings as numbers"),
    "words": (f"{U}1,2,3\n1,3,up\n", "line 3: rating 'up' is not a number; write ratings as numbers"),
    "German dates": (
        f"{U[:-1]},timestamp\n1,2,3,31.12.2024\n",
        "line 2: timestamp '31.12.2024' is .* timestamp= reads",
    ),
    "digits of another script": (f"{U}1,2,3\n1,3,٣\n", "line 3: rating '٣' is not a number"),
    "separators at the ends of rows": (f"{U}1,2,3,\n", "line 2: 4 fields where the first line has 3"),
    "thousands": ("user;item;rating\n1;2;1.234,5\n", "line 2: rating '1.234,5' is not a number"),
    "dates in place of ratings": (f"{U}1,2,2020-01-01\n", "line 2: rating '2020-01-01' is not a number"),
    "dates as Americans write them": (f"{U[:-1]},timestamp\n1,2,3,12/31/2019\n", "line 2: timestamp '12/31/2019' is"),
    "a table for people": (" user | item | rating \n------+------+-----\n 1 | 2 | 3\n", "line 2: 1 fields where"),
    "Netflix": ("1:\n1488844,3,2005-09-06\n", "no column user, item, rating; found 1:"),
    "an archive in an archive": (tar(b"user,item,rating\n1,2,3\n"), "a tar archive: extract it"),
    "a workbook": (workbook(), "an Excel workbook: save the sheet as CSV"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "an Excel workbook: save the sheet as CSV"),
    "a database": (b"SQLite format 3\0" + bytes(100), "an SQLite database: give sqlite:///FILE with --table"),
    "a pickle": (b"\x80\x04\x95\x10" + bytes(100), "a pickle: write it as Parquet or CSV"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_line_or_what_to_do(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    (tmp_path / "ratings.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=f"ratings.csv: {message}"):
        read(tmp_path / "ratings.csv")


READ: dict[str, tuple[str, dict[str, Any], list[tuple[str, str, float]]]] = {
    "a German Excel export": (
        "\ufeffuser;item;rating\r\n1;2;3,5\r\n2;3;4,0\r\n",
        {"decimal": ","},
        [("1", "2", 3.5), ("2", "3", 4)],
    ),
    "separators at the ends of all lines": ("user,item,rating,\n1,2,3,\n", {}, [("1", "2", 3)]),
    "several ends of lines": (
        "user,item,rating\r\n1,2,3\n2,3,4\r3,4,5",
        {},
        [("1", "2", 3), ("2", "3", 4), ("3", "4", 5)],
    ),
    "scripts and marks": (
        f"{U}😀,אבג,3\ne\u0301,é,4\n\u200f1,1\u200b,2\n",
        {},
        [("😀", "אבג", 3), ("e\u0301", "é", 4), ("\u200f1", "1\u200b", 2)],
    ),
    "an index without a name": (",user,item,rating\n0,a,b,3\n", {}, [("a", "b", 3)]),
    "RecBole": (
        "user_id:token\titem_id:token\trating:float\n196\t242\t3\n",
        {"columns": {"user": "user_id:token", "item": "item_id:token", "rating": "rating:float"}},
        [("196", "242", 3)],
    ),
    "columns by position": (
        HASHES,
        {"columns": {"user": "1", "item": "3", "rating": "4"}},
        [("00000c289a1829a8", "betty blowtorch", 2137), ("00001411dc427966", "die “Ärzte”", 1099)],
    ),
    "a control character between fields": (
        "1\x012\x013\n2\x013\x014\n",
        {"separator": "\x01"},
        [("1", "2", 3), ("2", "3", 4)],
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_other_programs_write_is_read_as_it_stands(tmp_path: Path, case: str) -> None:
    content, options, expected = READ[case]
    (tmp_path / "ratings.csv").write_bytes(content.encode())
    assert [row[:3] for row in rows_of(read(tmp_path / "ratings.csv", **options).ratings)] == expected


def test_a_zero_byte_far_into_a_text_is_refused_as_one_at_its_beginning_is(tmp_path: Path) -> None:
    rows = b"1,2,3\n" * (byte_stream.BLOCK_BYTES // 6)
    (tmp_path / "ratings.csv").write_bytes(U.encode() + rows + b"a\0b,2,3\n")
    with pytest.raises(DataError, match="not a text: it holds zero bytes"):
        read(tmp_path / "ratings.csv")


@pytest.mark.parametrize(
    "times", [("2019", "2020"), ("43830", "43831.5"), ("20191231", "20200101"), ("201912312359",) * 2]
)
def test_numbers_that_are_no_seconds_since_1970_are_told_of(
    tmp_path: Path, times: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"user,item,rating,timestamp\n1,2,3,{times[0]}\n2,3,4,{times[1]}\n")
    with caplog.at_level(logging.WARNING):
        summary(load([str(path)], rng=np.random.default_rng(0), cache=tmp_path))
    assert "all times are before 1980: numbers are read as seconds since 1970" in caplog.text


def test_ids_that_a_spreadsheet_rounded_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n1.23457E+15,2,3\n1.2E+15,3,4\n1e3,2,4\n")
    with caplog.at_level(logging.WARNING):
        summary(load([str(path)], rng=np.random.default_rng(0), cache=tmp_path))
    assert "2 user ids, such as 1.23457E+15, look like numbers that a spreadsheet rounded" in caplog.text
    assert "item ids" not in caplog.text


def test_a_part_without_a_byte_is_left_out_of_a_folder_and_a_first_rating_of_a_word_can_be_said(tmp_path: Path) -> None:
    """Spark writes such parts. Alone, an empty file is an error."""
    for name, content in {"_SUCCESS": "", ".part-0.crc": "x", "part-0": "ann,2,3\n2,3,4\n", "part-1": ""}.items():
        (tmp_path / name).write_text(content)
    options = SourceOptions(header=False)
    read_folder = load([str(tmp_path)], options, rng=np.random.default_rng(0), cache=tmp_path)
    assert rows_of(read_folder.ratings) == [("ann", "2", 3, None), ("2", "3", 4, None)]
    with pytest.raises(DataError, match="part-1: the file is empty"):
        load([str(tmp_path / "part-1")], options, rng=np.random.default_rng(0), cache=tmp_path)
