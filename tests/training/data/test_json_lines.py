"""JSON lines: an object a line, its numbers as they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.reading import read, rows_of
from training.data import json_lines
from training.errors import DataError

GOOD = {"user": "a", "item": "x", "rating": 3, "timestamp": 10}
EXPECTED = [("a", "x", 3, 10), ("b", "y", 4.5, 20)]


def write(folder: Path, content: str | bytes, name: str = "ratings.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


TEXT = lines(GOOD, {"user": "b", "item": "y", "rating": 4.5, "timestamp": 20})


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.rstrip().encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\n\n  \n").encode(),
        b"\n\n" + TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.replace('"a"', r'"\u0061"').encode(),
        TEXT.replace("3", '"3"').replace("10", '"1970-01-01T00:00:10Z"').encode(),
        TEXT.replace('{"user"', '  { "note" : {"deep": [1, null]}, "user"').encode(),
    ],
)
@pytest.mark.parametrize("name", ["ratings.jsonl", "ratings.JSON", "ratings.csv"])
def test_the_same_ratings_however_they_are_written_and_called(tmp_path: Path, content: bytes, name: str) -> None:
    assert rows_of(read(write(tmp_path, content, name)).ratings) == EXPECTED


@pytest.mark.parametrize(
    ("written", "id_"),
    [
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.0", "1"),
        ('"1.0"', "1"),
        ('" 007 "', "007"),
        ("1e3", "1000"),
        ("1.50", "1.5"),
        ("1e999999999", "1e999999999"),
        ('"NaN"', "NaN"),
        ('"Zoë \\"Z\\" , x"', 'Zoë "Z" , x'),
    ],
)
def test_ids_have_the_digits_that_the_file_has(tmp_path: Path, written: str, id_: str) -> None:
    assert read(write(tmp_path, f'{{"user": {written}, "item": "x", "rating": 1}}\n')).ratings.user_ids.to_pylist() == [
        id_
    ]


def test_a_time_may_be_missing_anywhere(tmp_path: Path) -> None:
    without = {name: value for name, value in GOOD.items() if name != "timestamp"}
    late = [*({**without, "item": f"x{n}"} for n in range(json_lines.FIRST_OBJECTS + 5)), GOOD | {"item": "y"}]
    rows = rows_of(read(write(tmp_path, lines(*late))).ratings)
    assert [row[3] for row in rows] == [None] * (len(late) - 1) + [10]
    assert read(write(tmp_path, lines(without))).ratings.timestamps_N is None


def test_members_may_be_renamed_and_stand_in_any_order(tmp_path: Path) -> None:
    content = lines({"at": 5, "stars": 2, "who": 1, "what": 7}, {"what": 8, "who": 1, "at": 6, "stars": 3})
    columns = {"user": "who", "item": "what", "rating": "stars", "timestamp": "at"}
    assert rows_of(read(write(tmp_path, content), columns=columns).ratings) == [("1", "7", 2, 5), ("1", "8", 3, 6)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3: not a JSON object"),
        ('{"user": "c"} {}', "line 3: not a JSON object"),
        ("[1]", "line 3: not a JSON object, but a list"),
        ("5", "line 3: not a JSON object, but a str"),
        (lines({**GOOD, "user": None}), "line 3: user is missing"),
        (lines({**GOOD, "user": " "}), "line 3: user is missing"),
        (lines({"user": "c", "item": "x"}), "line 3: rating is missing"),
        (lines({**GOOD, "user": True}), "line 3: a Boolean instead of a text or a number"),
        (lines({**GOOD, "item": ["x"]}), "line 3: a list or an object instead of a text or a number"),
        (lines({**GOOD, "rating": "good"}), "line 3: rating 'good' is not a finite number"),
        (lines({**GOOD, "rating": float("nan")}), "line 3: rating is missing"),
        (lines({**GOOD, "rating": float("inf")}), "line 3: an infinity instead of a text or a number"),
        (lines({**GOOD, "user": float("inf")}), "line 3: an infinity instead of a text or a number"),
        (lines({**GOOD, "rating": 1e39}), "line 3: rating '10{39}' is too large"),
        (lines({**GOOD, "rating": "4,5"}), "line 3: rating '4,5' is not .*write a point in place of a decimal comma"),
        (lines({**GOOD, "timestamp": "soon"}), "line 3: timestamp 'soon' is neither a number nor an ISO 8601 time"),
        (lines({**GOOD, "timestamp": 5e9}), "line 3: timestamp 5000000000 is later than the year 2100"),
        ("[" * 100_000, "line 3: not a JSON object"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, TEXT.partition("\n")[0] + "\n\n" + line)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(path)


def test_an_id_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1"):
        read(write(tmp_path, '{"user": "\\ud800", "item": "x", "rating": 1}\n'))


@pytest.mark.parametrize(
    "content", [b'{"user": "\xff", "item": "x", "rating": 1}\n', '{"user": "é"}\n'.encode("latin-1")]
)
def test_what_is_not_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="not utf-8"):
        read(write(tmp_path, TEXT.encode() + content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"user": 1, "item": 2, "rating": 3}]', "a JSON array; write one object per line"),
        ('{"user": 1,\n "item": 2, "rating": 3}', "line 1: not a JSON object .*one object per line"),
        ('{"User": 1, "item": 2, "rating": 3}', "no column user; found User, item, rating"),
        ('{"user": 1, "item": 2, "rating": 3, "Timestamp": 4}', "the column Timestamp may be the timestamp"),
        ('{"user": 1, "item": 2, "rating": 3, "x": "' + "x" * (1 << 20) + '"}', "line 1: longer than"),
    ],
)
def test_what_is_no_table_says_how_it_should_look(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, content))


def test_a_time_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column when; found user, item, rating, timestamp"):
        read(write(tmp_path, TEXT), columns={"timestamp": "when"})


def test_of_a_member_that_stands_twice_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: .*rating"):
        read(write(tmp_path, '{"user": 1, "item": 2, "rating": 3, "rating": 4}\n'))
