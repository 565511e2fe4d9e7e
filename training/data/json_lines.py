"""Reads JSON lines: an object for each rating. Numbers become texts with all the digits that the file has."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from enum import IntEnum
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
FIRST_OBJECTS = 100  # whose members are the columns of ratings
MOST_MEMBERS = 10_000  # with different names
SINGLE_VALUES = ("id", *NAMES)
Record = tuple[int, dict[str, Any]]


class Holds(IntEnum):
    """What a member holds in some object; a later one includes the earlier ones."""

    TEXTS = 0
    LISTS = 1
    OBJECTS = 2


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


def _constant(name: str) -> float | None:
    """NaN, as pandas writes a gap, or an infinity, which is neither an id nor a rating."""
    return None if name == "NaN" else float(name)


_decoder = json.JSONDecoder(parse_int=str, parse_float=_digits, parse_constant=_constant, object_pairs_hook=_members)


def batches(
    opener: Opener, encoding: str, selection: Selection, origin: Origin
) -> tuple[Iterator[pa.RecordBatch], Origin]:
    """The chosen members of the objects as columns of texts, and the origin that names their lines.

    The members are those of the first objects, or of all if all are selected; an object may lack one, which is then
    missing in its row. Objects within members are JSON. Raises DataError for a line that is no object.
    """

    def records() -> Iterator[Record]:
        return _records(opener, encoding, origin.name)

    holds = _holds(records() if selection.others else islice(records(), FIRST_OBJECTS), origin)
    chosen = _chosen(list(holds), selection, origin)

    def line_of(row: int) -> int:
        return next(islice(records(), row, None))[0]

    return _batches(records(), chosen, holds, origin), Origin(origin.name, line_of)


def _holds(records: Iterable[Record], origin: Origin) -> dict[str, Holds]:
    """The members of some objects, and what they hold. Raises DataError if there are very many."""
    found: dict[str, Holds] = {}
    for _, record in records:
        for name, value in record.items():
            found[name] = max(found.get(name, Holds.TEXTS), _held(value))
        if len(found) > MOST_MEMBERS:
            raise origin.error(f"more than {MOST_MEMBERS:,} members with different names")
    return found


def _held(value: object) -> Holds:
    if isinstance(value, list):
        return Holds.OBJECTS if any(isinstance(each, dict | list) for each in value) else Holds.LISTS
    return Holds.OBJECTS if isinstance(value, dict) else Holds.TEXTS


def _chosen(found: Sequence[str], selection: Selection, origin: Origin) -> dict[str, str]:
    """The members to read. A time may be missing in all first objects, and not in later ones."""
    late = [TIMESTAMP] if TIMESTAMP in selection.optional and TIMESTAMP not in selection.renamed else []
    return dict.fromkeys(late, TIMESTAMP) | selection.of(found, origin)


def _batches(
    records: Iterator[Record], chosen: Mapping[str, str], holds: Mapping[str, Holds], origin: Origin
) -> Iterator[pa.RecordBatch]:
    while part := list(islice(records, BATCH_ROWS)):
        try:
            columns = [_column(name, column, part, origin, holds.get(column)) for name, column in chosen.items()]
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


def _column(name: str, member: str, part: Sequence[Record], origin: Origin, holds: Holds | None) -> pa.Array:
    """A member of some objects as texts; if it is no part of a rating also as lists of texts, or as JSON."""
    values = [(record.get(member), line) for line, record in part]
    if name in SINGLE_VALUES:
        return pa.array([_single(value, line, origin) for value, line in values], pa.string())
    if holds is Holds.OBJECTS:
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value, _ in values]
        return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(texts, pa.string()))
    if holds is Holds.LISTS:
        lists = [value if value is None or isinstance(value, list) else [value] for value, _ in values]
        return pa.array([value and list(map(_text, value)) for value in lists], pa.list_(pa.string()))
    return pa.array([_text(value) for value, _ in values], pa.string())


def _single(value: object, line: int, origin: Origin) -> str | None:
    if value is None or isinstance(value, str):
        return value
    kind = (
        "a Boolean" if isinstance(value, bool) else "an infinity" if isinstance(value, float) else "a list or an object"
    )
    raise DataError(f"{origin.name}: line {line}: {kind} instead of a text or a number")


def _text(value: str | bool | None) -> str | None:
    return str(value).lower() if isinstance(value, bool) else value


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
