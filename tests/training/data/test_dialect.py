"""How a text is written is recognised from its first lines, or taken as it is said."""

from __future__ import annotations

from typing import Any

import pytest

from training.data.dialect import Dialect, Quotes, encoding_of, recognised, separator_given
from training.data.origin import Selection
from training.errors import ConfigError
from training.options import SourceOptions

HEADER = ["user,item,rating,timestamp", "1,2,3,4", "2,3,4.5,5"]
PLAIN = ["1,2,3,4", "2,3,4.5,5"]


def dialect(lines: list[str], ending: str = "", **options: Any) -> Dialect:
    known = SourceOptions(**options)
    return recognised(lines, ending, "utf-8", known, Selection(renamed=known.columns))


@pytest.mark.parametrize("ending", ["", ".csv", ".tsv", ".txt", ".dat", ".data"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::"])
@pytest.mark.parametrize("lines", [HEADER, PLAIN], ids=["header", "no header"])
def test_a_separator_and_a_header_are_recognised_whatever_the_ending(
    lines: list[str], separator: str, ending: str
) -> None:
    found = dialect([line.replace(",", separator) for line in lines], ending)
    assert (found.separator, found.names) == (separator, None if lines is HEADER else ("1", "2", "3", "4"))


@pytest.mark.parametrize("separator", [":", " ", "   "])
def test_colons_and_blanks_separate_where_nothing_else_does(separator: str) -> None:
    found = dialect([line.replace(",", separator) for line in PLAIN])
    assert found.separator == (":" if separator == ":" else " ")


@pytest.mark.parametrize(
    ("lines", "separator"),
    [
        (["user,item,rating,timestamp", "1,2,3,2020-01-01 10:11:12", "2,3,4,2020-01-01 10:11:13"], ","),
        (["user\titem\trating\tnote", "1\t2\t3\ta,b,c", "2\t3\t4\td,e,f"], "\t"),
        (["user;item;rating", "1;2;3,5", "2;3;4,5"], ";"),
        (["user|item|rating|genres", "1|2|3|a,b", "2|3|4|a,b,c"], "|"),
        (['user,item,rating', '"a;b;c",2,3', '"d;e;f",3,4'], ","),
        (["1::2::3::978300760", "2::a:b::4::978300761"], "::"),
        (["user item rating", "1 2 3", "2 3 4"], " "),
    ],
)  # fmt: skip
def test_what_stands_within_fields_separates_none(lines: list[str], separator: str) -> None:
    assert dialect(lines).separator == separator


@pytest.mark.parametrize(("ending", "separator"), [(".csv", ","), (".tsv", "\t"), (".dat", "::"), ("", ",")])
def test_where_nothing_fits_the_ending_decides(ending: str, separator: str) -> None:
    assert dialect(["words", "and words"], ending).separator == separator


@pytest.mark.parametrize(
    ("first", "options", "is_header"),
    [
        ("user,item,rating", {}, True),
        (" user , item , rating ", {}, True),
        ("who,what,stars", {"columns": {"user": "who", "item": "what", "rating": "stars"}}, True),
        ("who,what,stars", {}, True),
        ("who,what,stars", {"columns": {"user": "1", "item": "2", "rating": "3"}}, True),
        ("196,242,3", {}, False),
        ("196,242,3", {"columns": {"user": "1", "item": "2", "rating": "3"}}, False),
        ("1,2,3", {"columns": {"user": "1", "item": "2", "rating": "3"}}, False),
        ("1,2,3", {"columns": {"user": "2", "item": "1", "rating": "3"}}, False),
        ("0,1,2", {"columns": {"user": "0", "item": "1", "rating": "2"}}, True),
        ("5,a,b", {"columns": {"user": "2", "item": "3", "rating": "1"}}, False),
        ("ann,242,n/a", {}, True),
        (",242,3", {}, True),
        ("196,242,nan", {}, True),
        ("196,242,3,5", {"decimal": ","}, False),
        ("ann,bob,3", {}, False),
    ],
)
def test_a_first_line_with_a_number_for_a_rating_is_no_header(
    first: str, options: dict[str, Any], is_header: bool
) -> None:
    assert (dialect([first, "7,8,4"], separator=",", **options).names is None) == is_header


def test_a_first_line_is_a_rating_if_that_is_said_and_it_looks_so() -> None:
    assert dialect(["1,2,x", "1,2,3"], header=False).names == ("1", "2", "3")


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        (",", ","),
        ("comma", ","),
        ("Tab", "\t"),
        (r"\t", "\t"),
        ("::", "::"),
        ("blank", " "),
        ("^", "^"),
        ("\x01", "\x01"),
    ],
)
def test_a_separator_may_be_said_by_its_name(text: str, separator: str) -> None:
    assert separator_given(text) == separator


@pytest.mark.parametrize("text", ["", "ab", "a", "1", '"', "\n", ".", ";;"])
def test_what_cannot_separate_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--separator .*: give one character"):
        separator_given(text)


@pytest.mark.parametrize(
    ("head", "encoding", "expected"),
    [
        (b"user", None, "utf-8"),
        (b"\xef\xbb\xbfuser", None, "utf-8"),
        ("user".encode("utf-16"), None, "utf-16"),
        (b"\xfe\xff\x00u", None, "utf-16"),
        (b"user", "Latin-1", "iso8859-1"),
        (b"\xef\xbb\xbfuser", "cp1252", "cp1252"),
    ],
)
def test_a_byte_order_mark_says_the_encoding_unless_one_is_given(head: bytes, encoding: str, expected: str) -> None:
    assert encoding_of(head, SourceOptions(encoding=encoding)) == expected


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "undefined"])
def test_an_encoding_that_python_does_not_know_is_refused(encoding: str) -> None:
    with pytest.raises(ConfigError, match=f"--encoding {encoding}: Python knows no encoding of texts with this name"):
        encoding_of(b"", SourceOptions(encoding=encoding))


@pytest.mark.parametrize(
    ("separator", "quotes", "expected"),
    [
        (",", True, Quotes.FIELD),
        (";", True, Quotes.FIELD),
        ("tab", True, Quotes.PERHAPS),
        ("|", True, Quotes.PERHAPS),
        ("::", True, Quotes.NOTHING),
        (",", False, Quotes.NOTHING),
    ],
)
def test_quotes_mean_something_where_the_format_has_them(separator: str, quotes: bool, expected: Quotes) -> None:
    assert dialect(["user,item,rating"], separator=separator, quotes=quotes).quotes is expected


@pytest.mark.parametrize(
    ("decimal", "text", "number"), [(".", "3.5", 3.5), (".", "1e1", 10), (",", "3,5", 3.5), (",", "4", 4)]
)
def test_a_number_has_the_decimal_sign_of_its_text(decimal: str, text: str, number: float) -> None:
    assert Dialect(";", decimal=decimal).number(text) == number


@pytest.mark.parametrize(("decimal", "text"), [(".", "3,5"), (",", "3.5"), (".", "1_000"), (".", "")])
def test_another_sign_makes_no_number(decimal: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".?"):
        Dialect(";", decimal=decimal).number(text)


def test_a_dialect_is_said_in_words() -> None:
    assert str(Dialect("\t", ("1", "2", "3"))) == "fields separated by tabs, no header, utf-8"
    assert str(Dialect("^")) == "fields separated by ^, a header, utf-8"
