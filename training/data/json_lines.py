"""Reads JSON lines: an object for each rating. Numbers keep the digits that the file has."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import pyarrow as pa

from training.data.byte_stream import MAX_LINE
from training.data.compression import Opener
from training.data.origin import Origin, chosen_columns
from training.errors import DataError

BATCH_ROWS = 100_000
_decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
Record = tuple[int, dict[str, Any]]


def batches(
    opener: Opener, encoding: str, columns: Mapping[str, str], origin: Origin
) -> tuple[Iterator[pa.RecordBatch], Origin]:
    """The chosen members of the objects as columns of texts, and what names their lines.

    The members are those of the first object; a later object may lack one, which is then missing in its row. Raises
    DataError for a line that is no object.
    """

    def records() -> Iterator[Record]:
        return _records(opener, encoding, origin.name)

    first = next(records(), None)
    if first is None:
        raise origin.error("the file is empty")
    chosen = chosen_columns(_members(first[1], columns), columns, origin)

    def line_of(row: int) -> int:
        return next(islice(records(), row, None))[0]

    return _batches(records(), chosen, origin), Origin(origin.name, line_of)


def _members(record: Mapping[str, Any], columns: Mapping[str, str]) -> Sequence[str]:
    """The names of a record's members. A time may be missing in the first record, and not in others."""
    timestamp = columns.get("timestamp", "timestamp")
    return [*record, *([timestamp] if timestamp and timestamp not in record else [])]


def _batches(records: Iterator[Record], chosen: Mapping[str, str], origin: Origin) -> Iterator[pa.RecordBatch]:
    while part := list(islice(records, BATCH_ROWS)):
        texts = [[_text(record.get(column), line, origin) for line, record in part] for column in chosen.values()]
        yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in texts], list(chosen))


def _text(value: object, line: int, origin: Origin) -> str | None:
    if value is None or isinstance(value, str):
        return value
    kind = "a Boolean" if isinstance(value, bool) else "a list or an object"
    raise DataError(f"{origin.name}: line {line}: {kind} where a text or a number belongs")


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
