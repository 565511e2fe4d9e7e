"""Lines and quotes are counted alike however the bytes come, and what comes out is what a plain reader would see."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import byte_stream
from training.data.byte_stream import UNIT, CountedText
from training.data.dialect import Dialect, Quotes
from training.errors import DataError

TEXTS = st.lists(
    st.sampled_from(['"', ",", "\n", "\r", "\r\n", "a", "::", ":", " ", "\t", "é", "\ufeff"]), max_size=20
).map("".join)
BLOCKS = st.integers(3, 7)  # a byte order mark is never cut


class Slow(io.BytesIO):
    """Gives only some bytes at a time."""

    size = 1

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.size if size else 0)


def counted(content: bytes, dialect: Dialect, block: int = 1 << 20) -> tuple[bytes, CountedText]:
    stream = Slow(content)
    stream.size = block
    text = CountedText(stream, dialect, "here")
    return b"".join(iter(lambda: text.read(7), b"")), text


def filled(content: str) -> list[str]:
    return [line for line in re.split("[\r\n]+", content) if line]


@given(TEXTS, BLOCKS)
def test_lines_that_are_not_blank_are_counted(content: str, block: int) -> None:
    raw, text = counted(content.encode(), Dialect(","), block)
    assert raw.decode() == content.removeprefix("\ufeff")
    assert text.lines == len(filled(content.removeprefix("\ufeff")))


@given(TEXTS, BLOCKS)
def test_quotes_are_well_formed_if_each_encloses_a_field_or_stands_twice_in_one(content: str, block: int) -> None:
    _, text = counted(content.encode(), Dialect(","), block)
    content = content.removeprefix("\ufeff")
    field = r'(?:"(?:[^"]|"")*"|[^",\r\n]*)'
    well_formed = re.fullmatch(rf"{field}(?:[,\r\n]{field})*", content) is not None
    assert text.quotes == content.count('"')
    assert text.well_formed == well_formed


def test_quotes_that_mean_nothing_are_not_counted() -> None:
    _, text = counted(b'"a,b\n', Dialect(",", quotes=Quotes.NOTHING))
    assert (text.quotes, text.well_formed) == (0, True)


@given(TEXTS, BLOCKS)
def test_two_colons_become_one_byte(content: str, block: int) -> None:
    raw, _ = counted(content.encode(), Dialect("::", quotes=Quotes.NOTHING), block)
    assert raw == content.removeprefix("\ufeff").encode().replace(b"::", UNIT)


@given(TEXTS, BLOCKS)
def test_runs_of_blanks_become_one_and_none_at_the_ends_of_lines(content: str, block: int) -> None:
    raw, _ = counted(content.encode(), Dialect(" ", quotes=Quotes.NOTHING), block)
    lines = [" ".join(re.findall("[^ \t]+", line)) for line in re.split("[\r\n]", content.removeprefix("\ufeff"))]
    assert re.split("[\r\n]", raw.decode()) == lines


@given(TEXTS, BLOCKS, st.sampled_from(["utf-16", "utf-16-le", "utf-8-sig", "utf-32"]))
def test_other_encodings_become_utf_8(content: str, block: int, encoding: str) -> None:
    raw, _ = counted(content.encode(encoding), Dialect(",", encoding=encoding), block)
    assert raw.decode().removeprefix("\ufeff") == content.removeprefix("\ufeff")


def test_what_would_be_taken_for_a_separator_is_refused() -> None:
    with pytest.raises(DataError, match=r"here: has the control character U\+001F"):
        counted(b"1::2::a\x1fb\n", Dialect("::", quotes=Quotes.NOTHING))


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_stream, "MAX_LINE", 1_000)
    with pytest.raises(DataError, match="here: a line is longer than 1,000 bytes"):
        counted(b"1 " * 1_000, Dialect(" ", quotes=Quotes.NOTHING), 100)
