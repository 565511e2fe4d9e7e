"""Reads delimited text with Arrow's fast reader, and names the line of an error.

Every row is accounted for: `CountedText` counts the lines of the text independently of the reader, and quotes that
could hide line ends are checked by a strict reader.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from threading import Event

import pyarrow as pa
from pyarrow import csv as arrow_csv

from training.data import first_lines
from training.data.byte_stream import BLOCK_BYTES, MAX_LINE, CountedText, QuoteFoundError, delimiter_of
from training.data.compression import Opener
from training.data.dialect import POSITIONS, Dialect, Quotes, encoding_of, recognised, wide_encoding
from training.data.origin import NAMES, RATING, TIMESTAMP, Origin, Selection
from training.errors import DataError
from training.options import SourceOptions

log = logging.getLogger(__name__)
FIRST_LINES = 1_000  # that a dialect is recognised by
IDS = pa.dictionary(pa.int32(), pa.string())
SINGLE_LINE = ("id", *NAMES)  # columns whose fields have no line ends
TYPES = {"user": IDS, "item": IDS, "rating": pa.float64(), TIMESTAMP: None}  # None: inferred
LONGEST_WAIT = 10.0  # seconds
UNREADABLE = (pa.ArrowInvalid, UnicodeError)


def read(opener: Opener, name: str, dialect: Dialect, selection: Selection) -> tuple[pa.Table, Origin]:
    """The selected columns of a text under our names, and the origin that names its rows.

    Ids are dictionaries, ratings float64, times of an inferred type, all others texts. `opener` opens the text as often
    as is needed. Raises DataError, which names the line if it is known.
    """
    text = Text(opener, name, dialect)
    if dialect.names is None and selection.by_position(text.names()):
        text = replace(text, by_position=True)
    if dialect.quotes is Quotes.PERHAPS and text.names() != text.literal().names():
        dialect = replace(dialect, quotes=Quotes.FIELD)  # those of the header enclose its fields
        text = replace(text, dialect=dialect)
    if dialect.names is not None:
        selection = _without_names(selection, len(dialect.names))
    chosen = selection.of(text.names(), Origin(name))
    try:
        table, counted = _table(text, chosen)
        literal = (
            dialect.quotes is Quotes.PERHAPS and counted.quotes > 0 and not _keeps_quotes(text, chosen, counted, table)
        )
    except UNREADABLE as error:
        if dialect.quotes is not Quotes.PERHAPS:
            raise text.diagnosis(chosen, str(error)) from error
        literal = True
    if literal:
        text = text.literal()
        try:
            table, counted = _table(text, chosen)
        except UNREADABLE as error:
            raise text.diagnosis(chosen, str(error)) from error
        log.warning("%s: double quotes are read as ordinary characters, because not all of them enclose fields", name)
    rows = counted.lines - int(dialect.names is None)
    if counted.quotes and not (counted.well_formed and rows == table.num_rows):
        rows = text.strictly_counted(chosen)
    if rows != table.num_rows:
        raise DataError(f"{name}: {table.num_rows:,} rows were read, but the text has {rows:,}")
    names = text.names()
    found = {ours: names.index(theirs) for ours, theirs in chosen.items()}
    return table, Origin(name, text.line_of, places=found, has_names=dialect.names is None)


def _without_names(selection: Selection, columns: int) -> Selection:
    """What is read of a text whose columns have no names: those at the usual places, or at the given ones."""
    if tuple(selection.required) != RATING:
        return replace(selection, others=False)  # without names they mean nothing
    usual = POSITIONS if not selection.renamed else {each: POSITIONS[each] for each in RATING}
    return replace(selection, renamed={**dict(islice(usual.items(), columns)), **selection.renamed})


def dialect_of(opener: Opener, name: str, ending: str, options: SourceOptions, selection: Selection) -> Dialect:
    """The dialect of a text. Raises DataError if it is empty or not text, ConfigError for invalid options."""
    with opener() as stream:
        head = stream.read(MAX_LINE)
    encoding = encoding_of(head, options)
    whole = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head).removeprefix("\ufeff")
    lines = whole.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(head) == MAX_LINE and not any(lines[:-1]):
        whole_line = f"line {len(lines)} is longer than {MAX_LINE:,} bytes; a row of ratings is shorter"
        raise DataError(f"{name}: {whole_line if lines[-1] else f'its first {MAX_LINE:,} bytes are blank lines'}")
    if "\0" in whole:
        wide = wide_encoding(head)
        hint = f" (--encoding {wide} if it is {wide.upper()})" if wide else ""
        raise DataError(f"{name}: not text, because it has zero bytes{hint}")
    first = list(islice(lines if len(head) < MAX_LINE else lines[:-1], FIRST_LINES))
    filled = [line for line in first if line.strip()]
    if not filled:
        raise DataError(f"{name}: the file is empty")
    if "\ufffd" in filled[0]:
        number = lines.index(filled[0]) + 1
        raise DataError(f"{name}: line {number}: not {encoding}{_other_encodings(encoding)}")
    dialect = recognised(filled, ending, encoding, options, selection)
    if tuple(selection.required) == RATING:
        first_lines.check(first, dialect, selection, name, header=options.header)
    return dialect


def _other_encodings(encoding: str) -> str:
    return "; --encoding cp1252 or latin-1 reads older Western texts" if encoding == "utf-8" else ""


@dataclass(frozen=True, slots=True)
class Text:
    """A text as records with line numbers, which the fast reader does not give. Slow: only for checks and messages.

    `by_position` says that columns are given by position, and so may have equal names.
    """

    opener: Opener
    name: str
    dialect: Dialect
    by_position: bool = False

    def names(self) -> list[str]:
        """Names of the columns, without surrounding blanks, or their positions from 1."""
        if self.dialect.names is not None:
            return list(self.dialect.names)
        found = [field.strip() for field in next(self.records(), (1, [""]))[1]]
        if not self.by_position or len(set(found)) == len(found):
            return found
        return [name if found.count(name) == 1 else str(place) for place, name in enumerate(found, 1)]

    def literal(self) -> Text:
        """The same text with quotes as ordinary characters."""
        return replace(self, dialect=replace(self.dialect, quotes=Quotes.NOTHING))

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """(first line, fields) of each record that is not blank. Raises DataError for a bad line."""
        width = None
        for line, fields in self._split():
            width = width or len(fields)
            if len(fields) != width:
                raise DataError(f"{self.name}: line {line}: {len(fields)} fields where the first line has {width}")
            yield line, fields

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        return islice(self.records(), int(self.dialect.names is None), None)

    def line_of(self, row: int) -> int:
        """The first line of a row; 0 if it cannot be found."""
        return next(islice(self.rows(), row, None), (0, []))[0]

    def strictly_counted(self, chosen: Mapping[str, str]) -> int:
        """The number of rows. Raises DataError where quotes are not balanced, or a quoted field hides rows."""
        names = self.names()
        places = [names.index(column) for name, column in chosen.items() if name in SINGLE_LINE]
        count = 0
        for line, fields in self.rows():
            count += 1
            for place, field in enumerate(fields):
                if '"' in field[:1] + field.lstrip()[:1] and field != field.lstrip():
                    raise DataError(
                        f"{self.name}: line {line}: there is a blank before a quote: delete the blanks between the "
                        "separator and the quote, or give --no-quotes if quotes are ordinary characters"
                    )
                if ("\n" in field or "\r" in field) and (
                    place in places
                    or self._hides_rows(field, names, chosen)
                    or self._joins_rows(fields, place, names, chosen)
                ):
                    raise self._unbalanced(line, "a quoted field continues in the next line")
        return count

    def diagnosis(self, chosen: Mapping[str, str], reason: str) -> DataError:
        """The error that names the first bad line, or gives `reason` if none is found."""
        names = self.names()
        places = {name: names.index(column) for name, column in chosen.items()}
        try:
            for line, fields in self.rows():
                if any("\udc80" <= letter <= "\udcff" for place in places.values() for letter in fields[place]):
                    other = _other_encodings(self.dialect.encoding)
                    return DataError(f"{self.name}: line {line}: not {self.dialect.encoding}{other}")
                if "rating" in places and not self.dialect.is_number(fields[places["rating"]] or "nan"):
                    return DataError(
                        f"{self.name}: line {line}: {self._fault(fields[places['rating']], places['rating'])}"
                    )
        except DataError as error:
            return error
        return DataError(f"{self.name}: {reason}")

    def _fault(self, rating: str, place: int) -> str:
        if rating == self.names()[place]:
            return "the names of the columns stand there again: delete the line"
        commas = self.dialect.decimal == "." and "," in rating
        return f"rating {rating!r} is not a number" + (
            " (--decimal , reads decimal commas)" if commas else "; write ratings as numbers"
        )

    def _hides_rows(self, field: str, names: Sequence[str], chosen: Mapping[str, str]) -> bool:
        """Whether a line within a field looks like a row, which an unclosed quote has swallowed."""
        inner = [line.split(self.dialect.separator) for line in field.splitlines()[1:]]
        if "rating" not in chosen:
            return any(len(row) == len(names) for row in inner)
        rating = names.index(chosen["rating"])
        return any(rating < len(row) <= len(names) and self.dialect.is_number(row[rating]) for row in inner)

    def _joins_rows(self, fields: Sequence[str], place: int, names: Sequence[str], chosen: Mapping[str, str]) -> bool:
        """Whether the first and the last line of a field, with what stands beside them there, both look like rows."""
        lines = [line.split(self.dialect.separator) for line in fields[place].splitlines()]
        ends = [*fields[:place], *lines[0]], [*lines[-1], *fields[place + 1 :]]
        if "rating" in chosen:
            rating = names.index(chosen["rating"])
            places = rating, rating - len(names)
            return all(len(row) >= len(names) and any(self.dialect.is_number(row[at]) for at in places) for row in ends)
        if any(len(row) != len(names) for row in ends) or len(lines) == 1:
            return False
        id_ = names.index(chosen["id"])
        return len({row[id_].strip().isdecimal() for row in ends}) == 1  # ids of one kind

    def _unbalanced(self, line: int, problem: str) -> DataError:
        return DataError(
            f"{self.name}: line {line}: {problem}: its quotes seem not to be balanced. "
            "Write a quote within a field twice, or give --no-quotes if quotes are ordinary characters"
        )

    def _split(self) -> Iterator[tuple[int, list[str]]]:
        if self.dialect.separator == " " or self.dialect.quotes is Quotes.NOTHING:
            stripped = ((number, line.rstrip("\r\n")) for number, line in enumerate(self._lines(), 1))
            blanks = " \t" if self.dialect.separator == " " else ""
            yield from ((number, self.dialect.split(line)) for number, line in stripped if line.strip(blanks))
            return
        reader = csv.reader(self._lines(), delimiter=self.dialect.separator, strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise self._unbalanced(line, str(error)) from error

    def _lines(self) -> Iterator[str]:
        errors = "surrogateescape" if self.dialect.encoding in ("utf-8", "ascii", "cp1252") else "strict"
        number = 0
        with closing(self.opener()) as stream:
            text = io.TextIOWrapper(io.BufferedReader(stream), self.dialect.encoding, errors, newline="")  # type: ignore[type-var]
            try:
                for number, line in enumerate(iter(lambda: text.readline(MAX_LINE + 1), ""), 1):
                    if len(line) > MAX_LINE:
                        raise DataError(f"{self.name}: line {number}: longer than {MAX_LINE:,} characters")
                    yield line.removeprefix("\ufeff") if number == 1 else line
            except UnicodeError as error:
                reason = f"not {self.dialect.encoding} ({getattr(error, 'reason', error)})"
                raise DataError(f"{self.name}: after line {number}: {reason}") from error


def _keeps_quotes(text: Text, chosen: Mapping[str, str], counted: CountedText, table: pa.Table) -> bool:
    """Whether quotes enclose fields throughout a text, and hide no ends of lines."""
    if not counted.well_formed:
        return False
    if counted.lines - int(text.dialect.names is None) == table.num_rows:
        return True
    try:
        text.strictly_counted(chosen)
    except DataError:
        return False
    return True


def _table(text: Text, chosen: Mapping[str, str]) -> tuple[pa.Table, CountedText]:
    """The chosen columns under our names: ids as dictionaries, ratings as float64, times of an inferred type."""
    try:
        return _parsed(text, chosen, TYPES)
    except pa.ArrowInvalid:
        if TIMESTAMP not in chosen:
            raise
        return _parsed(text, chosen, TYPES | {TIMESTAMP: pa.string()})  # later times may not look like the first ones


class _Lent:
    """A stream for Arrow, which needs only these members."""

    closed = False

    def __init__(self, stream: CountedText) -> None:
        self.read = stream.read


def _read_csv(stream: CountedText, *options: object) -> pa.Table:
    """Read a table and wait for the thread that has read it, which would abort a process that ends earlier."""
    done = Event()
    lent = _Lent(stream)
    _told = weakref.ref(lent, lambda _: done.set())
    try:
        return arrow_csv.read_csv(lent, *options)
    finally:
        del lent
        done.wait(LONGEST_WAIT)


def _parsed(
    text: Text, chosen: Mapping[str, str], types: Mapping[str, pa.DataType | None]
) -> tuple[pa.Table, CountedText]:
    """The table. Arrow reads rows in a tenth less time if it need not look for quotes, so it is told where none are."""
    if text.dialect.quotes is not Quotes.NOTHING:
        with suppress(QuoteFoundError):
            return _parsed_with(text, chosen, types, quotes=False)
    return _parsed_with(text, chosen, types, quotes=text.dialect.quotes is not Quotes.NOTHING)


def _parsed_with(
    text: Text, chosen: Mapping[str, str], types: Mapping[str, pa.DataType | None], *, quotes: bool
) -> tuple[pa.Table, CountedText]:
    names, dialect = text.names(), text.dialect
    refuse = not quotes and dialect.quotes is not Quotes.NOTHING
    places = {name: str(names.index(column)) for name, column in chosen.items()}
    types = {**dict.fromkeys(places, pa.string()), **types}
    before = 0 if dialect.names is not None else next(text.records())[0]
    with closing(CountedText(text.opener(), dialect, text.name, without_quotes=refuse)) as stream:
        table = _read_csv(
            stream,
            arrow_csv.ReadOptions(
                block_size=BLOCK_BYTES,
                column_names=[str(place) for place in range(len(names))],
                skip_rows_after_names=before,
            ),
            arrow_csv.ParseOptions(
                delimiter=delimiter_of(dialect),
                quote_char='"' if quotes else False,
                newlines_in_values=quotes,
            ),
            arrow_csv.ConvertOptions(
                column_types={places[name]: type_ for name, type_ in types.items() if name in places and type_},
                include_columns=list(places.values()),
                decimal_point=dialect.decimal,
            ),
        )
    return table.rename_columns(list(places)), stream
