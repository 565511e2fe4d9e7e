"""Reads delimited text: CSV, TSV, MovieLens u.data and ratings.dat, from a file or out of an archive."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import csv as arrow_csv

from training.data.validation import NAMES, Checked, Origin, check_file, checked, chosen_columns
from training.errors import DataError

Opener = Callable[[], IO[bytes] | gzip.GzipFile]


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a text. `names` are those of the columns, None if the first line has them."""

    delimiter: str
    names: tuple[str, ...] | None = None
    quoted: bool = False


COMMA = Layout(",", quoted=True)
TAB = Layout("\t", quoted=True)
U_DATA = Layout("\t", NAMES)
RATINGS_DAT = Layout("::", NAMES)

# beside u.data there are prepared splits: u1.base, u1.test, ua.base, …
LAYOUTS = {
    ".csv": COMMA,
    ".csv.gz": COMMA,
    ".tsv": TAB,
    ".tsv.gz": TAB,
    ".data": U_DATA,
    ".base": U_DATA,
    ".test": U_DATA,
    ".dat": RATINGS_DAT,
}

BLOCK_BYTES = 1 << 24  # pyarrow makes a dictionary per block; its default of 1 MB makes too many to unify


def read(path: Path, layout: Layout, columns: Mapping[str, str] | None = None) -> Checked:
    """The ratings in a file, gzipped or not. Raises DataError, which names the line if it is known."""
    check_file(path)
    opener: Opener = (lambda: gzip.GzipFile(path)) if path.suffix == ".gz" else (lambda: path.open("rb"))
    return read_stream(opener, layout, str(path), columns)


def read_stream(opener: Opener, layout: Layout, name: str, columns: Mapping[str, str] | None = None) -> Checked:
    """The ratings in a text that can be opened more than once; see `read`. `name` is for messages."""
    text = _Text(opener, layout, name)
    origin = Origin(name, text.line_of)
    try:
        header = text.header()
        table = _table(text, header, chosen_columns(header, columns, origin))
        return checked(table.to_batches(), origin)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: not a gzip file ({error})") from error
    except EOFError as error:
        raise DataError(f"{name}: the gzip file is truncated") from error


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as records with line numbers, which the fast reader does not give. Slow: only for messages."""

    opener: Opener
    layout: Layout
    name: str

    def header(self) -> list[str]:
        """Names of the columns; those of a layout without header are as many as the first record has."""
        first = next(self.records(), None)
        if first is None:
            raise DataError(f"{self.name}: the file is empty")
        return first[1] if self.layout.names is None else list(self.layout.names[: len(first[1])])

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """(line, fields) of each record that is not blank, the header included. Raises DataError for a bad line."""
        width = None
        for line, fields in self._split():
            width = width or len(fields)
            if len(fields) != width:
                raise DataError(f"{self.name}: line {line}: {len(fields)} fields where the first line has {width}")
            yield line, fields

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        return islice(self.records(), int(self.layout.names is None), None)

    def line_of(self, row: int) -> int:
        return next(islice(self.rows(), row, None))[0]

    def _split(self) -> Iterator[tuple[int, list[str]]]:
        if self.layout.quoted:
            reader = csv.reader(self._lines(), delimiter=self.layout.delimiter, strict=True)
            try:
                yield from ((reader.line_num, fields) for fields in reader if fields)
            except csv.Error as error:
                raise DataError(f"{self.name}: line {reader.line_num}: {error}") from error
        else:
            stripped = ((number, line.rstrip("\r\n")) for number, line in enumerate(self._lines(), 1))
            yield from ((number, line.split(self.layout.delimiter)) for number, line in stripped if line)

    def _lines(self) -> Iterator[str]:
        with self.opener() as stream:
            for number, line in enumerate(stream, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"{self.name}: line {number}: not UTF-8 ({error.reason})") from error


def _table(text: _Text, header: list[str], chosen: Mapping[str, str]) -> pa.Table:
    """The chosen columns under our names: ids as dictionaries, ratings as float64, times as what they look like.

    The fast reader knows no delimiter of two characters, so that "::" is read as ":" with an empty column in each gap.
    """
    layout = text.layout
    gaps = [f"{column}, gap" for column in header[:-1]] if len(layout.delimiter) == 2 else []
    names = [name for pair in zip(header, gaps, strict=False) for name in pair] + header[len(gaps) :]
    ids = pa.dictionary(pa.int32(), pa.string())
    types = {chosen["user"]: ids, chosen["item"]: ids, chosen["rating"]: pa.float64()} | dict.fromkeys(gaps, pa.null())
    try:
        with text.opener() as stream:
            table = arrow_csv.read_csv(
                stream,
                arrow_csv.ReadOptions(block_size=BLOCK_BYTES, column_names=names if layout.names else None),
                arrow_csv.ParseOptions(
                    delimiter=layout.delimiter[0],
                    quote_char='"' if layout.quoted else False,
                    newlines_in_values=layout.quoted,
                ),
                arrow_csv.ConvertOptions(column_types=types, include_columns=[*chosen.values(), *gaps]),
            )
    except pa.ArrowInvalid as error:
        raise _diagnosis(text, header.index(chosen["rating"]), str(error)) from error
    return table.select(list(chosen.values())).rename_columns(list(chosen))


def _diagnosis(text: _Text, rating: int, reason: str) -> DataError:
    """The error that names the first bad line, or gives `reason` if none is found."""
    try:
        for line, fields in text.rows():
            try:
                float(fields[rating] or "nan")
            except ValueError:
                return DataError(f"{text.name}: line {line}: rating {fields[rating]!r} is not a number")
    except DataError as error:
        return error
    return DataError(f"{text.name}: {reason}")
