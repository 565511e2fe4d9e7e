"""Texts are read right, or refused with the line that is wrong."""

from __future__ import annotations

import gc
import gzip
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.reading import read, rows_of
from training.data import byte_stream, delimited
from training.errors import DataError

HEADER = b"user,item,rating,timestamp\n"
GOOD = b"1,2,3.5,10\n2,1,4,20\n"
EXPECTED = [("1", "2", 3.5, 10), ("2", "1", 4.0, 20)]
QUOTED = b'"user","item","rating","timestamp"\n"1","2","3.5","10"\n"2","1","4","20"\n'


def write(folder: Path, content: bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def with_separator(content: bytes, separator: bytes) -> bytes:
    return content.replace(b",", separator)


SEPARATORS = {"semicolons": b";", "tabs": b"\t", "bars": b"|", "::": b"::", "colons": b":", "blanks": b"  "}
NAMED = {"user": "who", "item": "what", "rating": "stars", "timestamp": "at"}
WRITTEN: dict[str, bytes] = {
    "commas": HEADER + GOOD,
    "a byte order mark": b"\xef\xbb\xbf" + HEADER + GOOD,
    "a byte order mark without header": b"\xef\xbb\xbf" + GOOD,
    "CRLF": (HEADER + GOOD).replace(b"\n", b"\r\n"),
    "CR": (HEADER + GOOD).replace(b"\n", b"\r"),
    "CR without header": GOOD.replace(b"\n", b"\r"),
    "mixed ends of lines": HEADER + GOOD.replace(b"\n", b"\r\n", 1),
    "blank lines after the header": HEADER + b"\n\n" + GOOD + b"\n\n",
    "blank lines before the header": b"\n\n" + HEADER + GOOD,
    "CRLF and blank lines before the header": b"\r\n\r\n" + (HEADER + GOOD).replace(b"\n", b"\r\n"),
    "CR and blank lines before the header": (b"\n\n" + HEADER + b"\n" + GOOD).replace(b"\n", b"\r"),
    "blank lines without header": b"\n" + GOOD.replace(b"\n", b"\n\n"),
    "no end of the last line": (HEADER + GOOD).rstrip(),
    "no header": GOOD,
    "quotes": QUOTED,
    "quotes and CRLF": QUOTED.replace(b"\n", b"\r\n"),
    "quotes and CR": QUOTED.replace(b"\n", b"\r"),
    "quotes and semicolons": with_separator(QUOTED, b";"),
    "quotes and tabs": with_separator(QUOTED, b"\t"),
    "quotes without header": QUOTED.partition(b"\n")[2],
    "a note that goes on": b'user,item,note,rating,timestamp\n1,2,"two\nlines, ""quoted""",3.5,10\n2,1,\xff,4,20\n',
    "blanks around fields": b" user , item , rating , timestamp \n 1, 2, 3.5, 10\n2 ,1 ,4 ,20 \n",
    "columns in another order": b"timestamp,x,rating,item,user\n10,a,3.5,2,1\n20,b,4,1,2\n",
    "more columns without header": b"1,2,3.5,10,x\n2,1,4,20,y\n",
    **{
        f"{name}, {what}": with_separator(content, separator)
        for name, separator in SEPARATORS.items()
        for what, content in (("header", HEADER + GOOD), ("no header", GOOD))
    },
    "blanks at the ends of lines": b"  1 2\t3.5 10  \n2 1 4 20\n",
    "UTF-16": (HEADER + GOOD).decode().encode("utf-16"),
    "big-endian UTF-16": b"\xfe\xff" + (HEADER + GOOD).decode().encode("utf-16-be"),
    "UTF-16 with CRLF and tabs": (HEADER + GOOD).decode().replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
    "UTF-16 with ::": GOOD.decode().replace(",", "::").encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", ["ratings.csv", "RATINGS.TXT", "u.data", "ratings.dat", "ratings"])
def test_the_same_ratings_however_they_are_written_and_called(tmp_path: Path, written: str, name: str) -> None:
    assert rows_of(read(write(tmp_path, WRITTEN[written], name)).ratings) == EXPECTED


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ((HEADER + GOOD).replace(b",", b"^"), {"separator": "^"}),
        ((HEADER + GOOD).replace(b",", b"\x01"), {"separator": "\x01"}),
        ((HEADER + GOOD).replace(b",", b";").replace(b".", b","), {"decimal": ","}),
        (b"1;2;3,5;10\n2;1;4;20\n", {"decimal": ","}),
        (b'"1";"2";"3,5";"10"\n"2";"1";"4";"20"\n', {"decimal": ","}),
        (b"who,what,stars,at\n" + GOOD, {"columns": NAMED}),
        (b"2,1,10,3.5\n1,2,20,4\n", {"columns": {"user": "2", "item": "1", "rating": "4", "timestamp": "3"}}),
        (HEADER + GOOD, {"columns": {"user": "1", "item": "2", "rating": "3", "timestamp": "4"}}),
        (GOOD, {"columns": {"user": "1", "item": "2", "rating": "3", "timestamp": "4"}}),
        ((HEADER + GOOD).decode().encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ((HEADER + GOOD).decode().encode("utf-32"), {"encoding": "utf-32"}),
    ],
)  # fmt: skip
def test_what_cannot_be_recognised_can_be_said(tmp_path: Path, content: bytes, options: dict[str, Any]) -> None:
    assert rows_of(read(write(tmp_path, content), **options).ratings) == EXPECTED


@pytest.mark.parametrize(
    ("encoding", "name"), [("latin-1", "Zoë ÿ"), ("cp1252", "Zoë €"), ("cp1250", "Łódź"), ("shift-jis", "日本")]
)
def test_older_encodings_are_read_where_they_are_named_and_refused_with_a_hint_where_not(
    tmp_path: Path, encoding: str, name: str
) -> None:
    content = HEADER + GOOD + f"{name},7,1,30\n".encode(encoding)
    path = write(tmp_path, content)
    assert rows_of(read(path, encoding=encoding).ratings)[-1] == (name, "7", 1, 30)
    with pytest.raises(DataError, match="line 4: not utf-8; --encoding cp1252 or latin-1 reads older"):
        read(path)


@pytest.mark.parametrize("name", ["u.data", "ratings.tsv", "ratings.txt"])
def test_quotes_that_enclose_no_fields_are_read_as_they_stand(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of(read(write(tmp_path, b'"1\t2\t3\t10\n2\t1"\t4\t20\n', name)).ratings)
    assert rows == [('"1', "2", 3, 10), ("2", '1"', 4, 20)]
    assert "double quotes are read as ordinary characters" in caplog.text


@pytest.mark.parametrize("row", [b'"c"d"\t"3"\t"5"', b'"c\nd"\t"3"\t"5"', b'"c\t"3"\t"5"'])
def test_a_header_in_quotes_says_that_they_enclose_fields(tmp_path: Path, row: bytes) -> None:
    path = write(tmp_path, b'"user"\t"item"\t"rating"\n"a"\t"1"\t"2"\n' + row, "ratings.tsv")
    with pytest.raises(DataError, match=r"line 3: .*its quotes seem not to be balanced"):
        read(path)


def test_quotes_mean_nothing_where_that_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, b'user,item,rating\n"a,1,3\nb",2,4\n')
    assert [row[:2] for row in rows_of(read(path, quotes=False).ratings)] == [('"a', "1"), ('b"', "2")]
    with pytest.raises(DataError, match=r"line 2: .*its quotes seem not to be balanced"):
        read(path)


def test_only_blanks_and_tabs_are_blanks_between_fields(tmp_path: Path) -> None:
    path = write(tmp_path, "  a\u00a0b 1 3\n \t \nc\u2003d\t2 4\n".encode())
    assert [row[:2] for row in rows_of(read(path, separator="blank").ratings)] == [("a\u00a0b", "1"), ("c\u2003d", "2")]
    path.write_bytes(path.read_bytes() + b"e 3\n")
    with pytest.raises(DataError, match="line 4: 2 fields where the first line has 3"):
        read(path, separator="blank")


def test_two_quotes_within_a_field_are_one(tmp_path: Path) -> None:
    path = write(tmp_path, b'user,item,rating\na,"""Weird Al"" Yankovic",3\nb,"x, y",4\n')
    assert [row[1] for row in rows_of(read(path).ratings)] == ['"Weird Al" Yankovic', "x, y"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::"])
def test_leading_zeros_huge_numbers_and_words_like_na_are_kept_in_ids(tmp_path: Path, separator: str) -> None:
    ids = ["007", "7", "NA", "null", "True", "1e3", "99999999999999999999", "-0", "+1", "1.50", "nan", "1/2", "0x1F"]
    lines = ["user,item,rating", *(f"{user},i,3" for user in ids)]
    path = write(tmp_path, "\n".join(lines).replace(",", separator).encode())
    assert read(path).ratings.user_ids.to_pylist() == ids


def test_ids_that_a_data_frame_turned_to_floats_are_whole_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, b"user,item,rating\n1.0,1.0,3\n2.0,1.5,4\n1,2,5\n")
    assert [row[:2] for row in rows_of(read(path).ratings)] == [("1", "1"), ("2", "1.5"), ("1", "2")]
    assert "2 user ids are read without .0: 1.0 is 1; 1 of them are also written without it" in caplog.text


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["10", "", "30"], [10, None, 30]),
        (["", "", "30.9"], [None, None, 30]),
        (["", "", ""], [None, None, None]),
        (["2020-01-01", "", "10"], [1577836800, None, 10]),
        (["10", "20", "2020-01-01T00:00:00Z"], [10, 20, 1577836800]),
        (["2020-01-01 00:00:00", "2020-01-01T01:00:00+01:00", ""], [1577836800, 1577836800, None]),
        (["1577836800000", "1577836801999", ""], [1577836800, 1577836801, None]),
        (["1577836800000000", "", "1577836801999999"], [1577836800, None, 1577836801]),
        (["1577836800000000000", "1577836801999999999", ""], [1577836800, 1577836801, None]),
        (["-1577836800000", "-1", "1577836800000"], None),
        (["1577836800", "1577836800000", ""], None),
        (["0", "1577836800000", ""], [0, 1577836800, None]),
    ],
)
def test_times_may_have_gaps_and_any_unit_but_one_unit(
    tmp_path: Path, times: list[str], expected: list[int | None] | None
) -> None:
    path = write(tmp_path, HEADER + "".join(f"{n},{n},3,{time}\n" for n, time in enumerate(times)).encode())
    if expected is None:
        with pytest.raises(DataError, match=r"line .: timestamp -?[0-9]+ is in another unit than"):
            read(path)
    else:
        assert [row[3] for row in rows_of(read(path).ratings)] == expected


@pytest.mark.parametrize(
    "times", [["10", "4102444801"], ["10", "2100-01-02"], ["1577836800", "99999999999"], ["4102444801000"]]
)
def test_a_time_in_the_far_future_is_refused_by_its_line(tmp_path: Path, times: list[str]) -> None:
    path = write(tmp_path, HEADER + "".join(f"{n},{n},3,{time}\n" for n, time in enumerate(times)).encode())
    with pytest.raises(DataError, match=rf"line {len(times) + 1}: timestamp \d+ is later than the year 2100"):
        read(path)


@pytest.mark.parametrize("column", ["Timestamp", "time_stamp", "timestamps", "TIMESTAMP"])
def test_a_column_that_may_be_the_times_must_be_named_or_left_out(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, HEADER.replace(b"timestamp", column.encode()) + GOOD)
    with pytest.raises(DataError, match=f"the column {column} may be the timestamp: give --columns timestamp={column}"):
        read(path)
    assert rows_of(read(path, columns={"timestamp": column}).ratings) == EXPECTED
    assert read(path, columns={"timestamp": ""}).ratings.timestamps_N is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": the file is empty"),
        (b"\n\r\n", ": the file is empty"),
        (b"\xef\xbb\xbf", ": the file is empty"),
        (HEADER, ": no ratings"),
        (b"user;item;stars\n1;2;3\n", ": no column rating; found user, item, stars"),
        (b"user,item,rating,rating\n1,2,3,4\n", ": more than one column rating"),
        (HEADER + GOOD + b"3,1,good,30\n", ": line 4: rating 'good' is not a number"),
        (HEADER + b"\n\n" + GOOD + b'3,1,"4,5",30\n', ": line 6: rating '4,5' is not a number .--decimal , reads"),
        (HEADER + GOOD + b"3,1,,30\n", ": line 4: rating is missing"),
        (HEADER + GOOD + b"3,1,nan,30\n", ": line 4: rating is missing"),
        (HEADER + GOOD + b"3,1,-inf,30\n", ": line 4: rating -inf is not a finite number"),
        (HEADER + GOOD + b"3,1,1e39,30\n", r": line 4: rating 1e\+39 is too large"),
        (HEADER + b"\n" + GOOD + b",1,3,30\n", ": line 5: user is missing"),
        (HEADER + GOOD + b"3,  ,3,30\n", ": line 4: item is missing"),
        (HEADER + GOOD + b"3,1,3,soon\n", ": line 4: timestamp 'soon' is neither a number nor an ISO 8601 time"),
        (HEADER + GOOD + b"3,1\n", ": line 4: 2 fields where the first line has 4"),
        (HEADER + GOOD + b"3,1,4,5,6\n", ": line 4: 5 fields where the first line has 4"),
        ((HEADER + GOOD + b"3,1\n").replace(b"\n", b"\r"), ": line 4: 2 fields where the first line has 4"),
        (GOOD + b"3,1,good,30\n", ": line 3: rating 'good' is not a number"),
        (b"1\t2\t3\n1\t3\tx\n", ": line 2: rating 'x' is not a number"),
        (b"1 2 3\n1 3 x\n", ": line 2: rating 'x' is not a number"),
        (b"1 2 3\n" * 10 + b"1 3\n", ": line 11: 2 fields where the first line has 3"),
        (b"1::2::3::4\n1::3::x::5\n", ": line 2: rating 'x' is not a number"),
        (b"1::2::3::4\n1::3::3\n", ": line 2: 3 fields where the first line has 4"),
        (b"1::2::3::4\n\n1::::3::5\n", ": line 3: item is missing"),
        (HEADER + b'1,"a\nb",3,4\n', ": line 2: a quoted field continues in the next line"),
        (HEADER + GOOD + b'3,"1,3,30\n', ": line 4: unexpected end of data: its quotes seem not to be balanced"),
        (HEADER + GOOD + b'3, "1",3,30\n', ": line 4: there is a blank before a quote"),
        (HEADER + GOOD + b'3,"1"x,3,30\n', ": line 4: .*its quotes seem not to be balanced"),
        (b'user,item,note,rating\n1,2,"a,3\n2,3,b,4\n3,4,c",5\n', ": line 2: .*its quotes seem not to be balanced"),
        (HEADER + GOOD + b"caf\xe9,1,3,30\n", ": line 4: not utf-8; --encoding cp1252 or latin-1"),
        (b"us\xe9r,item,rating\n1,2,3\n", ": line 1: not utf-8"),
        ("user,item,rating\n1,2,3\n".encode("utf-16-le"), ": not text, because it has zero bytes .--encoding utf-16"),
        (HEADER + GOOD + b"3,\0,3,30\n", ": not text, because it has zero bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named_by_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, content, "ratings.txt")
    with pytest.raises(DataError, match=f"{path}{message}"):
        read(path)


def test_an_encoding_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + GOOD + b"3,\x81,4,30\n")
    with pytest.raises(DataError, match="line 4: not cp1252"):
        read(path, encoding="cp1252")


def test_a_bad_value_far_into_a_gzipped_file_is_named_by_its_line(tmp_path: Path) -> None:
    rows = b"".join(b"%d,%d,3,5\n" % (row % 97, row) for row in range(200_000))
    path = write(tmp_path, gzip.compress(HEADER + rows + b"1,1,3,never\n", 1), "ratings.csv.gz")
    with pytest.raises(DataError, match="line 200002: timestamp 'never'"):
        read(path)


def test_the_job_says_what_it_took_a_file_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, gzip.compress(with_separator(GOOD, b"\t")), "ratings.gz")
    with caplog.at_level(logging.INFO):
        read(path)
    assert f"{path}: fields separated by tabs, no header, utf-8, gzip" in caplog.text


def test_columns_that_are_not_read_are_named_with_the_way_to_read_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read(write(tmp_path, b"user,item,rating,created_at,note\n1,2,3,2024-01-02,x\n2,2,4,2024-01-03,y\n", "own.csv"))
    assert "own.csv: columns that are not read: created_at, note; --columns timestamp=NAME reads times" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        read(write(tmp_path, b"user,item,rating,timestamp,note\n1,2,3,4,x\n2,2,4,5,y\n", "own.csv"))
    assert caplog.text.endswith("own.csv: columns that are not read: note\n")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        read(write(tmp_path, b"user,item,rating,timestamp\n1,2,3,4\n2,2,4,5\n", "own.csv"))
    assert "not read" not in caplog.text


def test_the_thread_that_reads_is_done_once_a_text_is_read(tmp_path: Path) -> None:
    """A process that ends while the thread still holds the stream is aborted."""
    path = write(tmp_path, HEADER + GOOD * 1_000)
    for _ in range(5):
        read(path)
        assert not [each for each in gc.get_objects() if type(each) is delimited._Lent]


WIDE = b",".join(b"c%d" % number for number in range(1_000_000))
HOSTILE = {
    "a header of a million columns": (WIDE + b"\n", "line 1 is longer than 1,048,576 bytes"),
    "a header of 100,000 columns": (WIDE[:600_000] + b"\n", "no column user, item, rating; found c0, c1, .* more"),
    "a million columns without header": (b",".join([b"1"] * 1_000_000) + b"\n1,2,3\n", "is longer than 1,048,576"),
    "one line of 64 MB": (b"1" * (64 << 20), "line 1 is longer than"),
    "a field of 64 MB": (HEADER + GOOD + b"3," + b"1" * (64 << 20), "line 4: longer than"),
    "a field of 64 MB between blanks": (b"1 2 3\n" + b"3 " + b"1" * (64 << 20), "a line is longer than"),
    "a quote that opens 64 MB": (HEADER + b'"' + GOOD * (1 << 21), "quotes seem not to be balanced|longer than"),
    "64 MB of blank lines": (b"\n" * (64 << 20), "its first 1,048,576 bytes are blank lines"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_text_is_refused_fast_in_a_short_line(tmp_path: Path, hostile: str) -> None:
    content, message = HOSTILE[hostile]
    path = write(tmp_path, content)
    began = time.monotonic()
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert time.monotonic() - began < 15
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "names", ['"user","item","rating"', '"user","a ""name"", quoted","rating"', '"user","a\nname","rating"']
)
@pytest.mark.parametrize("begins", ["", "\n\r\n", "\ufeff"])
@pytest.mark.parametrize("quoted", [None, 0, 9_999])
def test_quotes_may_be_anywhere_or_only_around_the_names(
    tmp_path: Path, names: str, begins: str, quoted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow is told that there are none until one is found in a row, which may be in a later block."""
    monkeypatch.setattr(byte_stream, "BLOCK_BYTES", 1 << 16)
    rows = [f"u{n},i{n},3" for n in range(10_000)]
    expected = [(f"u{n}", f"i{n}", 3.0, None) for n in range(10_000)]
    if quoted is not None:
        rows[quoted] = '"u,""x""",i,3'
        expected[quoted] = ('u,"x"', "i", 3.0, None)
    (tmp_path / "ratings.csv").write_bytes((begins + "\n".join([names, *rows])).encode())
    columns = {"user": "1", "item": "2", "rating": "3"}
    assert rows_of(read(tmp_path / "ratings.csv", columns=columns).ratings) == expected
