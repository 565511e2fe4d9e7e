"""Prepares a text for the fast reader: UTF-8 with one byte between fields. It counts lines and quotes.

The count does not depend on the reader: what it reads is compared with it.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from training.data.dialect import Dialect, Quotes
from training.errors import DataError

BLOCK_BYTES = 1 << 24  # pyarrow makes a dictionary per block; its default of 1 MB makes too many to unify
COUNTED_BYTES = 1 << 18  # at a time: they stay in the cache of a core, and take little memory
MAX_LINE = 1 << 20  # bytes; no row of a table of ratings is so long
UNIT = b"\x1f"  # the unit separator of ASCII
NEWLINE, RETURN, QUOTE = b'\n\r"'
_first_line = re.compile(rb"[\r\n]*[^\r\n]+[\r\n]")
_blanks = re.compile(rb"[ \t]+")
_blanks_at_ends = re.compile(rb"(?:^|(?<=[\r\n])) | (?=[\r\n]|$)")


def delimiter_of(dialect: Dialect) -> str:
    """The character that separates fields on the way to the reader."""
    return UNIT.decode() if dialect.separator == "::" else dialect.separator


class QuoteFoundError(Exception):
    """A double quote in a text that was to be read as one without any."""


class CountedText(io.RawIOBase):
    """The bytes of a text as the reader takes them.

    With `without_quotes`, `read` raises QuoteFoundError at the first quote after the names of the columns.

    Attributes:
        lines: number of lines read that are not blank.
        quotes: number of double quotes read; 0 if they are ordinary characters.
    """

    def __init__(self, stream: IO[bytes], dialect: Dialect, name: str, *, without_quotes: bool = False) -> None:
        self._stream, self._name, self._without_quotes = stream, name, without_quotes
        self._chunks = _chunks(stream, dialect, name)
        self._rest = b""
        self._has_names = dialect.names is None
        self._count_quotes = dialect.quotes is not Quotes.NOTHING and not without_quotes
        self._around_quotes = np.zeros(256, bool)
        self._around_quotes[[NEWLINE, RETURN, QUOTE, ord(delimiter_of(dialect))]] = True
        self._before, self._last = b"\n", b""  # the two bytes before the next chunk, if there are any
        self._well_formed = True
        self.lines = self.quotes = 0

    @property
    def well_formed(self) -> bool:
        """Whether each quote begins or ends a field, or is one of two in a quoted field."""
        return self._well_formed and self.quotes % 2 == 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._count(b"\n")  # the last line may have no end
                return b""
            if b"\0" in chunk:
                raise DataError(f"{self._name}: not a text: it holds zero bytes")
            if self._without_quotes and chunk.find(b'"', self._end_of_names(chunk)) >= 0:
                raise QuoteFoundError
            for begin in range(0, len(chunk), COUNTED_BYTES):
                self._count(chunk[begin : begin + COUNTED_BYTES])
            self._rest = chunk
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _end_of_names(self, chunk: bytes) -> int:
        """Where the names of the columns end in a chunk; 0 if it has none, or not the whole line."""
        found = _first_line.match(chunk) if self._has_names and not self.lines else None
        return found.end() if found else 0

    def _count(self, chunk: bytes) -> None:
        """Count the lines that end within a chunk, and judge the quotes of which both neighbours are known."""
        data = np.frombuffer(self._before + self._last + chunk, np.uint8)
        ends = data == NEWLINE
        if b"\r" in chunk or RETURN in self._before + self._last:
            ends |= data == RETURN
        known = ends[len(self._before + self._last) - 1 :]
        self.lines += int(np.count_nonzero(known[1:] > known[:-1]))
        if self._count_quotes:
            self._judge(data)
        self._before, self._last = data[-2:-1].tobytes() or self._before, data[-1:].tobytes()

    def _judge(self, data: npt.NDArray[np.uint8]) -> None:
        places = np.flatnonzero(data[1:-1] == QUOTE) + 1
        if len(places):
            opening, closing = places[self.quotes % 2 :: 2], places[1 - self.quotes % 2 :: 2]
            self.quotes += len(places)
            neighbours = data[opening - 1], data[closing + 1]
            self._well_formed &= all(bool(self._around_quotes[found].all()) for found in neighbours)


def _chunks(stream: IO[bytes], dialect: Dialect, name: str) -> Iterator[bytes]:
    chunks = _encoded(iter(lambda: stream.read(BLOCK_BYTES), b""), dialect.encoding)
    if dialect.separator == "::":
        return _with_units(chunks, name)
    return _with_single_blanks(chunks, name) if dialect.separator == " " else chunks


def _encoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, without a byte order mark."""
    first = next(chunks, b"")
    if encoding == "utf-8":
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    yield decoder.decode(first).removeprefix("\ufeff").encode()
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()


def _with_units(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """`::` as one byte. Colons at the end of a chunk wait for what follows."""
    held = b""
    for chunk in chunks:
        if UNIT in chunk:
            raise DataError(f"{name}: has the control character U+001F, which cannot be read in this format")
        text = held + chunk
        held = text[len(text.rstrip(b":")) :]
        yield text.removesuffix(held).replace(b"::", UNIT)
    yield held.replace(b"::", UNIT)


def _with_single_blanks(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Runs of blanks and tabs as one blank, and none at the ends of lines. Incomplete lines wait for their rest."""
    held = b""
    for chunk in chunks:
        text = held + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        held = text[end:]
        if len(held) > MAX_LINE:
            raise DataError(f"{name}: a line is longer than {MAX_LINE:,} bytes")
        yield _tidied(text[:end])
    yield _tidied(held)


def _tidied(lines: bytes) -> bytes:
    return _blanks_at_ends.sub(b"", _blanks.sub(b" ", lines))
