"""Reads JSON lines: an object for each rating. Numbers become texts with all the digits that the file has."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import islice
from typing import Any

import pyarrow as pa

from models.ids import of_number
from training.data.byte_stream import MAX_LINE
from training.data.compression import Opener
from training.data.origin import NAMES, TIMESTAMP, Origin, Selection, shortened
from training.errors import DataError

BATCH_ROWS = 100_000
MOST_DIGITS = 400  # of a number; the largest float has 309
FIRST_OBJECTS = 100  # whose members are the columns
SINGLE_VALUES = ("id", *NAMES)
Record = tuple[int, dict[str, Any]]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError for one that has two members of one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"more than one member {shortened([name])}")
    return found


def _digits(number: str) -> str:
    """A number with a fraction or an exponent as `models.ids` writes it."""
    if number[-1] != "0" and "e" not in number and "E" not in number:
        return number
    value = Decimal(number)
    return of_number(value) if abs(value.adjusted()) < MOST_DIGITS else number


def _constant(name: str) -> str | None:
    """NaN, as pandas writes a gap, or an infinity."""
    return None if name == "NaN" else name


_decoder = json.JSONDecoder(parse_int=str, parse_float=_digits, parse_constant=_constant, object_pairs_hook=_members)


def batches(
    opener: Opener, encoding: str, selection: Selection, origin: Origin
) -> tuple[Iterator[pa.RecordBatch], Origin]:
    """The chosen members of the objects as columns of texts, and the origin that names their lines.

    The members are those of the first objects; a later object may lack one, which is then missing in its row. Raises
    DataError for a line that is no object.
    """

    def records() -> Iterator[Record]:
        return _records(opener, encoding, origin.name)

    chosen = _chosen(records(), selection, origin)

    def line_of(row: int) -> int:
        return next(islice(records(), row, None))[0]

    return _batches(records(), chosen, origin), Origin(origin.name, line_of)


def _chosen(records: Iterator[Record], selection: Selection, origin: Origin) -> dict[str, str]:
    """The members of the first objects to read. A time may be missing in all of them, and not in later ones."""
    found = list(dict.fromkeys(name for _, record in islice(records, FIRST_OBJECTS) for name in record))
    late = [TIMESTAMP] if TIMESTAMP in selection.optional and TIMESTAMP not in selection.renamed else []
    return dict.fromkeys(late, TIMESTAMP) | selection.of(found, origin)


def _batches(records: Iterator[Record], chosen: Mapping[str, str], origin: Origin) -> Iterator[pa.RecordBatch]:
    while part := list(islice(records, BATCH_ROWS)):
        try:
            columns = [_column(name, column, part, origin) for name, column in chosen.items()]
        except UnicodeEncodeError as error:
            line = next(
                line for line, record in part if not all(_is_unicode(record.get(each)) for each in chosen.values())
            )
            raise DataError(f"{origin.name}: line {line}: half a surrogate pair, which is not text") from error
        yield pa.RecordBatch.from_arrays(columns, list(chosen))


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(name: str, member: str, part: Sequence[Record], origin: Origin) -> pa.Array:
    """A member of some objects as texts, or as lists of texts if one is a list and `name` is no part of a rating."""
    values = [(record.get(member), line) for line, record in part]
    if name in SINGLE_VALUES or not any(isinstance(value, list) for value, _ in values):
        return pa.array([_text(value, line, origin) for value, line in values], pa.string())
    lists = [(value if value is None or isinstance(value, list) else [value], line) for value, line in values]
    texts = [value and [_text(each, line, origin) for each in value] for value, line in lists]
    return pa.array(texts, pa.list_(pa.string()))


def _text(value: object, line: int, origin: Origin) -> str | None:
    if value is None or isinstance(value, str):
        return value
    kind = "a Boolean" if isinstance(value, bool) else "a list or an object"
    raise DataError(f"{origin.name}: line {line}: {kind} instead of a text or a number")


def _records(opener: Opener, encoding: str, name: str) -> Iterator[Record]:
    """(line, object) of each line that is not blank."""
    number = 0
    with closing(opener()) as stream:
        lines = io.TextIOWrapper(io.BufferedReader(stream), encoding, newline="")  # type: ignore[type-var]
        try:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE + 1), ""), 1):
                if len(line) > MAX_LINE:
                    raise DataError(f"{name}: line {number}: longer than {MAX_LINE:,} characters")
                text = line.strip().removeprefix("\ufeff")
                if text:
                    yield number, _object(text, number, name)
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: after line {number}: not {encoding} ({error.reason})") from error


def _object(text: str, line: int, name: str) -> dict[str, Any]:
    try:
        found = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        hint = "; a JSON document must be one object per line" if line == 1 else ""
        raise DataError(f"{name}: line {line}: not a JSON object ({error}){hint}") from error
    if not isinstance(found, dict):
        raise DataError(f"{name}: line {line}: not a JSON object, but a {type(found).__name__}")
    return found
