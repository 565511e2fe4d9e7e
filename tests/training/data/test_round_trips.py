"""What is written into any table is read back, or refused: never fewer rows, never other ids."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from models.ids import clean
from tests.fuzz.mutations import mutations
from tests.support.reading import Row, in_memory, read_files, rows_of
from training.data.files import File
from training.data.validation import Checked
from training.errors import ConfigError, DataError
from training.options import SourceOptions

COLUMNS = ("user", "item", "rating", "timestamp")
LITERAL = ("::", ":", " ")  # between fields that cannot be quoted
REFUSAL = re.compile(r"(line|row) \d+|no column |more than one column|the text has|quotes seem not")


class Table(NamedTuple):
    """Rows, and their times as they are written: all of one kind, or no column of them."""

    rows: Sequence[Row]
    times: Sequence[object] | None


class Written(NamedTuple):
    """The contents of files, what is said about them, and whether reading must succeed."""

    contents: Sequence[bytes]
    options: SourceOptions
    must: bool


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


TIMES: dict[str, tuple[int, Callable[[int], object]]] = {
    "seconds": (0, lambda seconds: seconds),
    "floats": (0, lambda seconds: seconds + 0.5),
    "milliseconds": (10**9, lambda seconds: seconds * 1_000 + 7),
    "microseconds": (10**9, lambda seconds: seconds * 1_000_000 + 7),
    "nanoseconds": (10**9, lambda seconds: seconds * 1_000_000_000 + 7),
    "ISO 8601": (0, iso),
}
LETTERS = st.sampled_from(
    [*"ab01-+._", *",;|:\t '\"\\#", *"éß日🎬", "\u00a0", "\u2028", "\x85", "\r", "\n", "::", '""', ".0"]
)
IDS = st.one_of(
    st.lists(LETTERS, min_size=1, max_size=6).map("".join),
    st.integers(-(10**25), 10**25).map(str),
    st.integers(0, 99).map("{:05}".format),
    st.sampled_from(
        ["NA", "null", "None", "nan", "True", "1e3", "-0", "0x1F", "1,5", "1;2;3", "a|b|c|d", "user", "rating"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), min_size=1, max_size=5),
).filter(lambda text: text != "" and clean(text) == text)
RATINGS = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.5, 3.0, 5.0, 99.0, 1e8])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    pairs = draw(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12, unique=True))
    rows = [(user, item, draw(RATINGS)) for user, item in pairs]
    kind = draw(st.sampled_from([None, *TIMES]))
    if kind is None:
        return Table([(*row, None) for row in rows], None)
    first, write = TIMES[kind]
    gaps = st.just(None) if draw(st.booleans()) else st.nothing()
    seconds = [draw(st.one_of(st.integers(first, 4_000_000_000), gaps)) for _ in rows]
    if max((each for each in seconds if each is not None), default=first) == 0 and first:
        seconds[0] = first
    written = [None if each is None else write(each) for each in seconds]
    return Table([(*row, each) for row, each in zip(rows, seconds, strict=True)], written)


def records(table: Table) -> list[list[object]]:
    """The rows as they are written."""
    if table.times is None:
        return [list(row[:3]) for row in table.rows]
    return [[*row[:3], time] for row, time in zip(table.rows, table.times, strict=True)]


def ids_of(table: Table) -> str:
    return "\0".join(text for row in table.rows for text in row[:2])


def encoded(texts: Sequence[str], encoding: str) -> list[bytes]:
    return [text.encode(encoding) for text in texts]


ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


@st.composite
def delimited(draw: st.DrawFn) -> tuple[Table, Written]:
    """By the csv module."""
    table, separator = draw(tables()), draw(st.sampled_from([",", ";", "\t", "|"]))
    header, said, end = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    texts = []
    for part in parts(draw, records(table)):
        target = io.StringIO()
        writer = csv.writer(target, delimiter=separator, quoting=quoting, lineterminator=end)
        writer.writerows([COLUMNS[: len(part[0])]] if header else [])
        writer.writerows(part)
        texts.append(target.getvalue())
    single_lines = not re.search("[\r\n]", ids_of(table))
    must = single_lines and (header or (said and len(texts) == 1))
    options = SourceOptions(separator=separator if said else None)
    return table, Written(encoded(texts, draw(ENCODINGS)), options, must)


@st.composite
def by_pandas(draw: st.DrawFn) -> tuple[Table, Written]:
    table, separator = draw(tables()), draw(st.sampled_from([",", ";", "\t", "|"]))
    texts = []
    for part in parts(draw, records(table)):
        frame = pd.DataFrame(part, columns=COLUMNS[: len(part[0])])
        texts.append(frame.to_csv(sep=separator, index=draw(st.booleans()), decimal="."))
    return table, Written(encoded(texts, draw(ENCODINGS)), SourceOptions(), not re.search("[\r\n]", ids_of(table)))


@st.composite
def by_polars(draw: st.DrawFn) -> tuple[Table, Written]:
    """As each of the formats that Polars writes, in one to three files."""
    table, kind = draw(tables()), draw(st.sampled_from(["csv", "Parquet", "NDJSON", "IPC", "IPC stream"]))
    separator, end = draw(st.sampled_from([",", ";", "\t", "|"])), draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from(["necessary", "always", "non_numeric"]))
    compression = draw(st.sampled_from(["uncompressed", "lz4", "zstd"]))
    contents = []
    for part in parts(draw, records(table)):
        frame = polars.DataFrame(part, COLUMNS[: len(part[0])], orient="row", infer_schema_length=None)
        if draw(st.booleans()) and kind not in ("csv", "NDJSON"):
            frame = frame.with_columns(polars.col("user").cast(polars.Categorical))
        target = io.BytesIO()
        if kind == "csv":
            frame.write_csv(target, separator=separator, quote_style=quoting, line_terminator=end)
        elif kind == "Parquet":
            frame.write_parquet(target, compression=compression, row_group_size=draw(st.integers(1, 5)))
        elif kind == "NDJSON":
            frame.write_ndjson(target)
        else:
            write = frame.write_ipc if kind == "IPC" else frame.write_ipc_stream
            write(target, compression=compression)
        contents.append(target.getvalue())
    single_lines = not re.search("[\r\n]", ids_of(table))
    options = SourceOptions(separator=separator if kind == "csv" and draw(st.booleans()) else None)
    return table, Written(contents, options, must=kind != "csv" or single_lines)


def can_be_literal(table: Table, separator: str) -> bool:
    if re.search('["\\r\\n\x1f]' + ("|[ \\t]" if separator == " " else "|:"), ids_of(table)):
        return False
    return separator == "::" or not any(time is None or "T" in str(time) for time in table.times or ())


@st.composite
def literal(draw: st.DrawFn) -> tuple[Table, Written]:
    """Fields with separators between them and nothing else. An id with a separator in it cannot be written so."""
    separator = draw(st.sampled_from(LITERAL))
    table = draw(tables().filter(lambda table: can_be_literal(table, separator)))
    header = draw(st.booleans())
    lines = [[str("" if field is None else field) for field in row] for row in records(table)]
    texts = []
    for part in parts(draw, lines):
        named = [list(COLUMNS[: len(part[0])]), *part] if header else part
        texts.append("".join(separator.join(line) + "\n" for line in named))
    return table, Written(encoded(texts, draw(ENCODINGS)), SourceOptions(separator=separator), must=header)


@st.composite
def without_quotes(draw: st.DrawFn) -> tuple[Table, Written]:
    """Quotes that mean nothing, as in most files with tabs."""
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    table = draw(tables().filter(lambda table: not re.search(rf"[\r\n{separator}]", ids_of(table))))
    lines = [["" if field is None else str(field) for field in row] for row in records(table)]
    text = "".join(separator.join(line) + "\n" for line in [list(COLUMNS[: len(lines[0])]), *lines])
    return table, Written([text.encode()], SourceOptions(quotes=False), must=True)


@st.composite
def json_lines(draw: st.DrawFn) -> tuple[Table, Written]:
    table, as_ascii = draw(tables()), draw(st.booleans())
    texts = []
    for part in parts(draw, records(table)):
        objects = [dict(zip(COLUMNS, row, strict=False)) for row in part]
        texts.append("".join(json.dumps(each, ensure_ascii=as_ascii) + "\n" for each in objects))
    return table, Written(encoded(texts, draw(ENCODINGS)), SourceOptions(), must=True)


@st.composite
def columnar(draw: st.DrawFn) -> tuple[Table, Written]:
    table, kind = draw(tables()), draw(st.sampled_from(["Parquet", "file", "stream"]))
    contents = []
    for part in parts(draw, records(table)):
        columns = dict(zip(COLUMNS, map(pa.array, zip(*part, strict=True)), strict=False))
        if draw(st.booleans()):
            columns["user"] = columns["user"].dictionary_encode()
        if kind == "Parquet" and all(re.fullmatch(r"0|-?[1-9]\d{0,17}", str(row[1])) for row in part):
            columns["item"] = columns["item"].cast(pa.int64())
        target = io.BytesIO()
        if kind == "Parquet":
            pq.write_table(pa.table(columns), target, row_group_size=draw(st.integers(1, 5)))
        else:
            new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
            with new(target, pa.table(columns).schema) as writer:
                writer.write_table(pa.table(columns))
        contents.append(target.getvalue())
    return table, Written(contents, SourceOptions(), must=True)


def parts(draw: st.DrawFn, rows: list[list[object]]) -> list[list[list[object]]]:
    """The rows in one to three files."""
    cuts = sorted(draw(st.sets(st.integers(1, max(len(rows) - 1, 1)), max_size=2))) if len(rows) > 1 else []
    return [rows[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


WRITERS = {
    writer.__name__: writer()
    for writer in (delimited, by_pandas, by_polars, literal, without_quotes, json_lines, columnar)
}


def check(table: Table, written: Written, ending: str, *, compressed: bool) -> None:
    pack = gzip.compress if compressed else bytes
    found = [in_memory(f"{number}{ending}", pack(content)) for number, content in enumerate(written.contents)]
    content = read_or_refused(found, written.options)
    if isinstance(content, DataError):
        assert not written.must, content
        assert REFUSAL.search(str(content))
    else:
        assert rows_of(content.ratings) == list(table.rows)
        assert content.rows == len(table.rows)


def read_or_refused(found: Sequence[File], options: SourceOptions) -> Checked | DataError:
    try:
        return read_files(found, options)
    except DataError as error:
        return error


ENDINGS = st.sampled_from(["", ".csv", ".tsv", ".txt", ".dat", ".data", ".parquet", ".json"])
quiet = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_is_read_back(writer: str) -> None:
    @settings(quiet, max_examples=40)
    @given(WRITERS[writer], ENDINGS, st.booleans())
    def read_back(case: tuple[Table, Written], ending: str, compressed: bool) -> None:
        check(*case, ending, compressed=compressed)

    read_back()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_is_read_back_thousands_of_times(writer: str) -> None:
    @settings(quiet, max_examples=1_000)
    @given(WRITERS[writer], ENDINGS, st.booleans())
    def read_back(case: tuple[Table, Written], ending: str, compressed: bool) -> None:
        check(*case, ending, compressed=compressed)

    read_back()


MANY = [(f"u{number % 7}", f"it {number % 5} x", number % 5 + 1, 1_600_000_000 + number) for number in range(35)]


def plain_text(
    separator: str, *, quoted: bool = False, end: str = "\n", header: bool = True, note: bool = False
) -> bytes:
    def field(value: object) -> str:
        return '"' + str(value).replace('"', '""') + '"' if quoted else str(value)

    names = [*COLUMNS, *(["note"] if note else [])]
    rows = [[*row, *([f'he said "{number}", twice'] if note else [])] for number, row in enumerate(MANY)]
    lines = [separator.join(names)] if header else []
    return "".join(line + end for line in [*lines, *(separator.join(map(field, row)) for row in rows)]).encode()


BASES = {
    "commas": plain_text(","),
    "commas and quotes": plain_text(",", quoted=True),
    "commas and CR": plain_text(",", end="\r"),
    "commas, quotes and CRLF": plain_text(",", quoted=True, end="\r\n"),
    "commas and notes": plain_text(",", quoted=True, note=True),
    "semicolons": plain_text(";"),
    "tabs": plain_text("\t"),
    "tabs and quotes": plain_text("\t", quoted=True),
    "bars": plain_text("|"),
    "::": plain_text("::", header=False),
    "colons": plain_text(":", header=False),
    "tabs without header": plain_text("\t", header=False),
    "blanks": plain_text(" ", header=False).replace(b"it ", b"it").replace(b" x", b"x"),
}
SPECIAL = b'"\n\r,;\t|: \0\xff1'


def small_mutations(valid: bytes, count: int, seed: int) -> list[bytes]:
    """One to three bytes replaced, inserted or removed, by such as mean something."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        data = bytearray(valid)
        for _ in range(int(rng.integers(1, 4))):
            at, byte = int(rng.integers(len(data))), SPECIAL[int(rng.integers(len(SPECIAL)))]
            kind = int(rng.integers(3))
            data[at : at + int(kind != 1)] = bytes([byte]) if kind < 2 else b""
        found.append(bytes(data))
    return found


def lines_of_rows(content: bytes, *, note: bool) -> int:
    """Lines that are not blank, or with a note, which may go on in the next line, those with the fields before it."""
    lines = re.split(rb"[\r\n]+", content.removeprefix(b"\xef\xbb\xbf"))
    return len([line for line in lines if (line.count(b",") >= len(COLUMNS) if note else line)])


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("count", [60, pytest.param(800, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_of_a_damaged_text_all_rows_are_read_or_none(base: str, count: int) -> None:
    valid, outcomes = BASES[base], {"read": 0, "refused": 0}
    assert rows_read(valid) == len(MANY)
    for content in (*mutations(valid, count, 7), *small_mutations(valid, count, 8)):
        try:
            rows = rows_read(content)
        except (DataError, ConfigError):
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        headers = int(b"rating" in content)
        assert rows == lines_of_rows(content, note=base == "commas and notes") - headers, content
    assert min(outcomes.values()) > count // 10


def rows_read(content: bytes) -> int:
    return read_files([File("ratings.csv", lambda: io.BytesIO(content))], SourceOptions()).rows
