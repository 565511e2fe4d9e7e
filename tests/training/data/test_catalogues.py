"""Catalogues and attributes as people have them: read as they stand, or refused with the row or the column."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from training.data.attributes import encode
from training.data.described import read_attributes, read_items
from training.errors import DataError
from training.options import SourceOptions


def items(path: Path, renamed: dict[str, str] | None = None, **options: Any) -> list[dict[str, Any]]:
    return read_items(str(path), renamed or {}, SourceOptions(**options)).to_pylist()


def text(folder: Path, content: str, name: str = "items.csv") -> Path:
    (folder / name).write_text(content)
    return folder / name


def table(folder: Path, **columns: Any) -> Path:
    ids = [str(number) for number in range(len(next(iter(columns.values()))))]
    pq.write_table(pa.table({"id": ids, **columns}), folder / "items.parquet")
    return folder / "items.parquet"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "id,available_from\nC1,2020-01-01\nC2,1700000000000\n",
            "line 2: available_from 1577836800 is in another unit than 1700000000000",
        ),
        (
            "id,available_until\nC1,\nC2,2101-01-01\n",
            "line 3: available_until 4133980800 is later than the year 2100",
        ),
        ("id,available_until\nC1,\nC2,soon\n", "line 3: available_until 'soon' is neither a number nor an ISO 8601"),
        ("id,hidden\nC1,\nC2,maybe\n", "line 3: hidden 'maybe' is neither true nor false"),
        ("id,title\nC1,A\nC2,B\nC1,C\n", "line 4: the id C1 has more than one row"),
        ("id,title\n1,A\nid,title\n2,B\n", "line 3: the names of the columns stand there again: delete the line"),
        ('id,title,year\n1,"A,1999\n2,B",2000\n3,C,2001\n', "line 2: a quoted field continues in the next line"),
        ("id,genres\n1,Drama\n2,[Drama\\, War]\n".replace("\\,", ""), r"line 3: genres \[Drama War\] cannot be read"),
        ("id,genres\n1,Drama\n2,\"['Drama' 'War']\"\n", r"line 3: genres \['Drama' 'War'\] cannot be read"),
        ("id,genres\n1,Drama\n2,[16]\n", r"line 3: genres \[16\] cannot be read"),
        ('id,genres\n1,War\n2,"Action, Adventure; Drama"\n', "line 3: genres Action, Adventure; Drama have semicolons"),
        ("1::Up (2009)::Animation\n", "no column id; .*id=NAME, or id=1 by position where no line names the columns"),
        ("id,genres\n1," + "[" * 9_999 + "]\n", r"line 2: genres \[\[.* cannot be read"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_line(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        items(text(tmp_path, content))


def test_titles_may_have_ends_of_lines_within_quotes(tmp_path: Path) -> None:
    path = text(tmp_path, 'id,title,year\n1,"A\nB",1999\n2,"Hello, World\nand, all",2000\n')
    assert [(one["title"], one["year"]) for one in items(path)] == [("A\nB", 1999), ("Hello, World\nand, all", 2000)]


def test_names_that_stand_again_in_attributes_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path, "item,kind\n1,A\n item ,kind\n2,B\n")
    with pytest.raises(DataError, match="line 3: the names of the columns stand there again"):
        read_attributes(str(path), "item", SourceOptions())


@pytest.mark.parametrize(
    ("written", "genres"),
    [
        (
            "\"[{'id': 16, 'name': 'Animation'}, {'id': 35, 'name': \"\"Kids' Tales\"\"}]\"",
            ["Animation", "Kids' Tales"],
        ),
        ('"[{""id"": 16, ""name"": ""Animation""}]"', ["Animation"]),
        ("\"['Animation', 'Comedy']\"", ["Animation", "Comedy"]),
        ("[]", []),
        (r"\N", None),
        ("", None),
        ("(no genres listed)", []),
        ("Action; Drama", ["Action", "Drama"]),
        ("Action|Drama| Action", ["Action", "Drama"]),
        ('"Arts &amp; Crafts, Home"', ["Arts &amp; Crafts", "Home"]),
        ("Action|Sci-Fi; Drama", ["Action", "Sci-Fi; Drama"]),
    ],
)
def test_genres_are_read_as_people_write_them(tmp_path: Path, written: str, genres: list[str] | None) -> None:
    assert [one["genres"] for one in items(text(tmp_path, f"id,genres\n1,{written}\n"))] == [genres]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[{"id": 1, "name": "War"}], None]),
        pa.array([["War"], None], pa.large_list(pa.string())),
        pa.array([["War"], None], pa.list_(pa.string(), 1)),
        pa.array([b"War", None]),
        pa.array(["War", None]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_genres_of_parquet_are_texts_or_lists(tmp_path: Path, column: pa.Array) -> None:
    assert [one["genres"] for one in items(table(tmp_path, genres=column))] == [["War"], None]


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("genres", [16, 35], "column genres: values of type int64 are not texts, lists of texts or"),
        ("genres", [[16], [35]], "column genres: values of type list<.*int64> are not"),
        ("genres", [[{"id": 16}], []], "column genres: values of type list<.*struct<id: int64>> are not"),
        ("title", [{"en": "A"}, None], "column title: values of type struct<en: string> are not texts"),
        ("title", [b"\xff", None], "column title: values of type binary are not texts"),
        ("available_from", [True, None], "column available_from: values of type bool are not times"),
        ("available_from", [[1], None], "column available_from: values of type list<.*int64> are not times"),
        ("hidden", [{"a": 1}, None], "column hidden: values of type struct<a: int64> are not true and false"),
    ],
)
def test_a_type_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, values: Any, reason: str) -> None:
    with pytest.raises(DataError, match=rf"items.parquet: {reason}"):
        items(table(tmp_path, **{name: values}))


def test_other_columns_that_cannot_be_labels_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {
        "a": [{"x": 1}],
        "b": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "c": [b"\xff"],
        "d": pa.array([[1.5, 2.0]], pa.list_(pa.float64(), 2)),
        "e": [["x, y", "z"]],
    }
    (item,) = items(table(tmp_path, **columns))
    assert item["labels"] == ["d:1.5", "d:2", "e:z"]
    assert "columns that are left out, because they hold no texts or numbers: a, b, c" in caplog.text
    assert "the column e gives no labels of texts with a comma, such as 'x, y' (1 in all)" in caplog.text


def test_parts_of_a_folder_may_differ_in_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "year": [1999], "kind": [["x"]]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["2"], "year": ["2001"], "kind": [None]}), tmp_path / "b.parquet")
    assert [one["year"] for one in items(tmp_path)] == [1999, 2001]
    assert read_attributes(str(tmp_path), "item", SourceOptions())["year"].to_pylist() == ["1999", "2001"]
    pq.write_table(pa.table({"id": ["2"], "kind": ["x"]}), tmp_path / "b.parquet")
    for read in (items, lambda path: read_attributes(str(path), "item", SourceOptions())):
        with pytest.raises(DataError, match=r"column kind: .* in another file of"):
            read(tmp_path)


def test_a_member_that_is_first_seen_late_is_read(tmp_path: Path) -> None:
    objects = [{"id": f"i{number}"} for number in range(300)]
    objects[200] |= {"title": "Late", "year": 1999, "tags": ["a", "b"], "hidden": True, "new": False}
    path = text(tmp_path, "\n".join(map(json.dumps, objects)), "items.jsonl")
    late = items(path)[200]
    wanted = {"title": "Late", "year": 1999, "hidden": True, "labels": ["tags:a", "tags:b", "new:false"]}
    assert {name: late[name] for name in wanted} == wanted
    assert read_attributes(str(path), "item", SourceOptions())["year"][200].as_py() == "1999"


def test_objects_within_json_are_left_out_and_named_but_genres_have_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        {"id": "1", "title": "A", "details": {"Brand": "x"}, "genres": [{"name": "War", "id": 3}], "shelves": [{}]},
        {"id": "2", "title": "B", "details": "none", "genres": "Drama", "shelves": []},
    ]
    path = text(tmp_path, "\n".join(map(json.dumps, lines)), "items.jsonl")
    found = items(path)
    assert [(one["title"], one["genres"], one["labels"]) for one in found] == [
        ("A", ["War"], None),
        ("B", ["Drama"], None),
    ]
    assert "left out, because they hold no texts or numbers: details, shelves" in caplog.text
    read = read_attributes(str(path), "item", SourceOptions())
    assert read.column_names == ["id", "title"]
    assert encode(read, pa.array(["1", "2"])) is None
    with pytest.raises(DataError, match=r"column title: values of type .*json.* are not texts"):
        items(path, {"title": "details"})


def test_years_that_no_catalogue_has_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    found = items(text(tmp_path, "id,year\n1,0042\n2,1999\n3,9999\n4,\n"))
    assert [one["year"] for one in found] == [None, 1999, None, None]
    assert "2 years, such as 0042, are not of four digits between 1000 and 2100" in caplog.text
    assert items(text(tmp_path, "id,title\n1,Class of (9999)\n"))[0]["title"] == "Class of (9999)"


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("movies.dat", "1::Heat (1995)::Action|Crime\n2::Up (2009)::Drama\n", {}),
        ("u.item", "1|Heat (1995)|Action\n2|Up (2009)|Drama\n", {}),
        ("items.csv", "a,Heat (1995),Action\nb,Up (2009),Drama\n", {"header": False}),
        ("items.csv", 'nr;name;kind\n1;"Heat (1995)";Action\n2;"Up (2009)";Drama\n', {"separator": ";"}),
    ],
)
def test_columns_may_be_given_by_position(tmp_path: Path, name: str, content: str, options: dict[str, Any]) -> None:
    found = items(text(tmp_path, content, name), {"id": "1", "title": "2", "genres": "3"}, **options)
    assert [(one["title"], one["year"], one["labels"]) for one in found] == [("Heat", 1995, None), ("Up", 2009, None)]


def test_the_remedy_for_ids_of_attributes_with_another_name_is_one_that_works(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column id; found ID, kind \(use the name id for ID\)"):
        read_attributes(str(text(tmp_path, "ID,kind\n1,x\n")), "item", SourceOptions())
