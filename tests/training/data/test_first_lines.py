"""A text whose first lines may mean something else than what they are taken for is refused, or warned of."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.reading import Row, in_memory, read_files, rows_of
from training.data import files
from training.data.origin import Selection
from training.data.validation import Part, checked
from training.errors import ConfigError, DataError
from training.options import SourceOptions

PLACES = {"user": "1", "item": "2", "rating": "3"}
ROWS = "u2,i2,5\nu3,i3,4\n"
READ: list[Row] = [("u2", "i2", 5, None), ("u3", "i3", 4, None)]


def rows(content: str | bytes, **options: Any) -> list[Row]:
    known = content if isinstance(content, bytes) else content.encode()
    return rows_of(read_files([in_memory("own.csv", known)], SourceOptions(**options)).ratings)


def read_part(file: files.File) -> Part:
    return files.read(file, SourceOptions(), Selection(renamed={}))


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        ("u1,i1,NA", "rating 'NA' is not a number"),
        ("u1,i1,NULL", "rating 'NULL' is not a number"),
        ("u1,i1,", "rating is missing"),
        (",i1,5", "user is missing"),
        ("u1,,5", "item is missing"),
        ("u1,i1,4 stars", "rating '4 stars' is not a number"),
        ("u1,i1,inf", "rating 'inf' is not a number"),
        ("1,1,five", "rating 'five' is not a number"),
        ('u1,i1,"4,5"', r"rating '4,5' is not a number \(--decimal , reads decimal commas\)"),
    ],
)
def test_a_bad_first_row_is_not_taken_for_names_where_columns_have_positions(first: str, fault: str) -> None:
    with pytest.raises(DataError, match=f"own.csv: line 2: {fault}, and the line does not look like the names"):
        rows(f"\n{first}\n{ROWS}", columns=PLACES)


@pytest.mark.parametrize("first", ["who,what,stars", "a,a,a", '"user id","item","score"'])
def test_names_are_names_where_columns_have_positions_even_equal_ones(first: str) -> None:
    assert rows(f"{first}\n{ROWS}", columns=PLACES) == READ


def test_columns_that_are_not_read_may_lack_a_name() -> None:
    assert rows(",who,what,stars\n0,u2,i2,5\n1,u3,i3,4\n", columns={"user": "2", "item": "3", "rating": "4"}) == READ


@pytest.mark.parametrize("corner", ["user", "User ID", "user/item", "id", "", "who"])
@pytest.mark.parametrize("body", ["ann,5,3,4\nbob,4,2,1\n", "1,5,3,4\n2,4,,1\n"])
def test_a_table_with_a_column_for_each_item_is_refused_with_the_way_to_turn_it(corner: str, body: str) -> None:
    with pytest.raises(DataError, match=r"seems to name a column for each item: .*: 'user'}\).melt\('user', var_name"):
        rows(f"{corner},101,102,103\n{body}")


def test_a_table_with_a_column_for_each_user_is_refused_too() -> None:
    with pytest.raises(DataError, match=r"a column for each user: .*melt\('item', var_name='user'"):
        rows("item,101,102,103\nann,5,3,4\n")


def test_positions_do_not_make_ratings_of_such_a_table_unless_that_is_said() -> None:
    with pytest.raises(DataError, match="give --no-header if the line is a rating"):
        rows("user,101,3\nann,5,3\n", columns=PLACES)
    assert rows("user,101,3\nann,5,3\n", header=False)[0] == ("user", "101", 3, None)


@pytest.mark.parametrize("content", ["ann,101,5,978300\nbob,102,4,978301\n", "ann,101,102\nbob,5,3\n"])
def test_ratings_of_users_with_names_are_no_such_table(content: str) -> None:
    assert rows(content)[0][:2] == ("ann", "101")


@pytest.mark.parametrize("columns", [{}, PLACES])
def test_decimal_commas_between_commas_are_warned_of(columns: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    rows("u1,i1,4,5\nu2,i2,3,0\n", columns=columns)
    assert "such as 5 in u1,i1,4,5, are no times" in caplog.text
    assert "give --decimal ," in caplog.text
    caplog.clear()
    rows("u1,i1,4,978300\nu2,i2,3,0\n", columns=columns)
    assert not caplog.records


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_counts_the_rows_is_warned_of(first: int, caplog: pytest.LogCaptureFixture) -> None:
    rows("".join(f"{n},{n % 2 + 11},21,{n}\n" for n in range(first, first + 3)))
    assert "if it is the index of a data frame, give --columns user=2,item=3,rating=4" in caplog.text


def test_an_hour_after_a_blank_is_not_lost() -> None:
    with pytest.raises(DataError, match="line 1: a blank separates the date 2020-01-01 from its hour: write T"):
        rows("u1 i1 5 2020-01-01 10:00:00\nu2 i1 5 2020-01-02 11:00:00\n")


def test_single_quotes_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert rows("'u1','i1',5\n'u2','i2',4\n")[0][:2] == ("'u1'", "'i1'")
    assert "single quotes around a field, such as 'u1', are part of it" in caplog.text


@pytest.mark.parametrize("before", ["nice,5", '""nice"", very,5'])
def test_a_quote_that_joins_two_rows_is_refused(before: str) -> None:
    with pytest.raises(DataError, match="line 2: a quoted field continues in the next line"):
        rows(f'user,item,comment,rating\nu1,i1,"{before}\nu2,i2,good",4\nu3,i3,x,2\n')


def test_a_comment_of_two_lines_with_commas_is_none() -> None:
    found = rows('user,item,comment,rating\nu2,i2,"nice, so\ngood, ok",5\nu3,i3,"2\n3",4\n')
    assert found == READ


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_the_order_of_bytes_without_a_mark_is_seen(encoding: str) -> None:
    for order in ("-le", "-be"):
        content = f"user,item,rating\n{ROWS}".encode(encoding + order)
        assert rows(content, encoding=encoding) == rows(content, encoding=encoding + order) == READ
        with pytest.raises(DataError, match=rf"zero bytes \(--encoding {encoding}{order} if it is"):
            rows(content)
    assert rows(f"user,item,rating\n{ROWS}".encode(encoding)) == READ


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-16", "the data is not utf-16"), ("utf-32", "the data is not"), ("idna", "Python knows no encoding of")],
)
def test_an_encoding_that_cannot_be_is_refused(encoding: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--encoding {encoding}: {message}"):
        rows(f"user,item,rating\n{ROWS}", encoding=encoding)


def test_ascii_is_ascii() -> None:
    with pytest.raises(DataError, match="line 2: not ascii"):
        rows("user,item,rating\né,a,3\nb,c,4\n", encoding="ascii")


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(ConfigError, match="--separator '': give one character"):
        rows(ROWS, separator="")


def test_a_blank_before_a_quote_is_said() -> None:
    with pytest.raises(DataError, match="line 1: there is a blank before a quote: delete the blanks between"):
        rows('"u1", "i1", 5\n"u1", "i2", 5\n')


def test_a_mark_where_files_were_joined_is_no_part_of_an_id() -> None:
    with pytest.raises(DataError, match=r"line 3: user .*u3' begins with a byte order mark") as caught:
        rows("\ufeffu1,i1,5\nu2,i2,5\n\ufeffu3,i3,4\n")
    assert "delete it" in str(caught.value)


NAMED, UNNAMED = "rating,user,item\n5,u1,i1\n", "4,2,1\n3,2,2\n"


@pytest.mark.parametrize("apart", [False, True])
def test_parts_without_names_are_refused_where_those_of_another_part_have_another_order(apart: bool) -> None:
    named, unnamed = (in_memory(f"{name}.csv", text.encode()) for name, text in (("a", NAMED), ("b", UNNAMED)))
    for found in ([named, unnamed], [unnamed, named]):
        parts = [read_part(file) for file in found]
        with pytest.raises(DataError, match=r"b.csv: its first line does not name the columns, and that of a.csv has"):
            checked([[part] for part in parts] if apart else [parts])


def test_parts_without_names_are_read_where_the_order_is_that_of_the_names() -> None:
    named, unnamed = "user,item,rating\nu1,i1,5\n", "4,2,1\n"
    parts = [read_part(in_memory(name, text.encode())) for name, text in (("a", named), ("b", unnamed))]
    assert rows_of(checked([parts]).ratings) == [("u1", "i1", 5, None), ("4", "2", 1, None)]
