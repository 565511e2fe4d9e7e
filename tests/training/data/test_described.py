"""What is known of users and items: attributes as they stand, and a catalogue of titles, years, genres and labels."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from training.data.described import check_overlap, read_attributes, read_items
from training.errors import DataError
from training.options import SourceOptions


def attributes(path: Path, side: str = "user", **options: object) -> pa.Table:
    return read_attributes(str(path), side, SourceOptions(**options))  # type: ignore[arg-type]


def items(path: Path, **renamed: str) -> list[dict[str, object]]:
    return read_items(str(path), renamed, SourceOptions()).to_pylist()


def test_ids_of_attributes_follow_the_rule_of_ratings(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("id,age\n007,30\n 2.0 ,40\n")
    pq.write_table(pa.table({"id": ["007", "2.0"], "age": ["30", "40"]}), tmp_path / "users.parquet")
    for name in ("users.csv", "users.parquet"):
        assert attributes(tmp_path / name).to_pydict() == {"id": ["007", "2"], "age": ["30", "40"]}


@pytest.mark.parametrize("name", ["id", "user", "who"])
def test_the_column_of_ids_may_be_called_as_in_the_ratings(tmp_path: Path, name: str) -> None:
    (tmp_path / "users.tsv").write_text(f"age\t{name}\n30\t1\n")
    assert attributes(tmp_path / "users.tsv", columns={"user": "who"}).to_pylist() == [{"id": "1", "age": "30"}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("age,job\n1,2\n", "no column id; found age, job"),
        ("id,age\n1,2\n1,3\n", "the id 1 has more than one row"),
        ("id,age\n1,2\n1.0,3\n", "the id 1 has more than one row"),
        ("id,age\na,2\n,3\n", "line 3: id is missing"),
        ("id,age,id\n1,2,3\n", "more than one column id"),
        ("id,age,age\n1,2,3\n", "more than one column age"),
        ("id,age\n1,2\n2\n", "line 3: 1 fields where the first line has 2"),
        ("id,age\n", "no rows"),
        ("", "the file is empty"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "users.csv").write_text(content)
    with pytest.raises(DataError, match=reason):
        attributes(tmp_path / "users.csv")


@pytest.mark.parametrize(
    ("ids", "reason"),
    [([["a"], ["b"]], "column id: "), ([b"\xff", b"b"], "column id: "), (["a", None], "row 2: id is missing")],
    ids=["lists", "bytes", "null"],
)
def test_ids_of_a_parquet_file_that_cannot_be_used_are_refused(tmp_path: Path, ids: list[object], reason: str) -> None:
    pq.write_table(pa.table({"id": ids, "age": [1, 2]}), tmp_path / "users.parquet")
    with pytest.raises(DataError, match=reason):
        attributes(tmp_path / "users.parquet")


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        attributes(tmp_path / "users.csv")


def test_a_catalogue_has_titles_years_genres_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(
        'id,title,genres,color\n1,Heat (1995),Action|Crime,red\n2,"Piano, The (1993)",,\n003,,unknown,blue\n'
    )
    assert items(path) == [
        {"id": "1", "title": "Heat", "year": 1995, "genres": ["Action", "Crime"], "labels": ["color:red"]},
        {"id": "2", "title": "Piano, The", "year": 1993, "genres": None, "labels": None},
        {"id": "003", "title": None, "year": None, "genres": [], "labels": ["color:blue"]},
    ]


def test_the_columns_of_a_catalogue_may_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"asin": "B01", "name": "A", "published": "May 2001", "tags": ["x", "y"]}\n')
    assert items(path, id="asin", title="name", year="published", genres="tags") == [
        {"id": "B01", "title": "A", "year": 2001, "genres": ["x", "y"], "labels": None}
    ]


@pytest.mark.parametrize(
    "lines",
    ['id,genres\n1,Drama|Crime\n2,"Drama|Sci-Fi, Fantasy"\n', '{"id": 2, "genres": ["Drama", "Sci-Fi, Fantasy"]}\n'],
    ids=["text", "list"],
)
def test_a_genre_with_a_comma_is_refused_because_no_list_can_be_asked_for_it(tmp_path: Path, lines: str) -> None:
    path = tmp_path / ("items.jsonl" if lines[0] == "{" else "items.csv")
    path.write_text(lines)
    with pytest.raises(DataError, match=r"line \d: genre 'Sci-Fi, Fantasy' has a comma"):
        items(path)


def test_a_text_with_a_comma_gives_no_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": 1, "author": "Tolkien, J. R. R.", "tags": ["a ", "b,c"]}\n{"id": 2, "author": "Homer"}\n')
    assert [item["labels"] for item in items(path)] == [["tags:a"], ["author:Homer"]]
    assert "author gives no labels of texts with a comma, such as 'Tolkien, J. R. R.' (1 in all)" in caplog.text


def test_a_catalogue_of_other_ids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\n1,A\n2,B\n")
    table = read_items(str(tmp_path / "items.csv"), {}, SourceOptions())
    check_overlap(table, pa.array(["2", "9"]))
    with pytest.raises(DataError, match="--items describes none of the rated items"):
        check_overlap(table, pa.array(["x", "y"]))


@pytest.mark.parametrize("second", ["1700000000", "1700000000000", "2023-11-14T22:13:20Z"])
def test_a_catalogue_may_say_which_items_are_shown_and_when(tmp_path: Path, second: str) -> None:
    (tmp_path / "items.csv").write_text(f"id,hidden,available_from,available_until\na,Yes,{second},\nb,0,,\nc,,,\n")
    nothing = {"title": None, "year": None, "genres": None, "labels": None}
    assert items(tmp_path / "items.csv") == [
        {"id": "a", "hidden": True, "available_from": 1_700_000_000, "available_until": None} | nothing,
        {"id": "b", "hidden": False, "available_from": None, "available_until": None} | nothing,
        {"id": "c", "hidden": False, "available_from": None, "available_until": None} | nothing,
    ]
