"""Refuses a text whose first lines may mean something else than what they are taken for, or warns of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from training.data.dialect import POSITIONS, SEPARATORS, Dialect, Quotes, names_a_pivot
from training.data.origin import NAMES, RATING, TIMESTAMP, Selection, shortened
from training.errors import DataError

log = logging.getLogger(__name__)
MOST_BEFORE = 50  # lines before the names of the columns, for messages
FEWEST_COUNTED = 3  # rows by which a column is known to count them
MISSING = frozenset(("na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil", "missing", r"\n", "-", "?", "."))
MELT = (
    "turn the table into one row per rating first, with pandas: table.rename(columns={{table.columns[0]: '{0}'}})"
    ".melt('{0}', var_name='{1}', value_name='rating').dropna()"
)
_begins_with_digit = re.compile(r"[+-]?[.,]?\d").match
_is_date = re.compile(r"\d{4}-\d\d?-\d\d?").fullmatch
_is_hour = re.compile(r"\d\d?:\d\d(:\d\d.*)?").fullmatch
_is_fraction = re.compile(r"\d\d?").fullmatch


def check(lines: Sequence[str], dialect: Dialect, selection: Selection, name: str, *, header: bool) -> None:
    """Check the first lines of a text of ratings, of which one at least is not blank.

    `header` is False if the first line is said to be a rating. Raises DataError.
    """
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    at = filled[0][0]
    rows = [[field.strip() for field in dialect.split(line)] for _, line in filled]
    if dialect.names is not None:
        if header and not selection.places_ratings:
            _check_are_no_names(rows[0], dialect, name)
        _check_rows(rows, dialect, selection, f"{name}: line {at}")
    elif not selection.is_header(rows[0]):
        if len(rows[0]) >= len(RATING) and names_a_pivot(rows[0], [line for _, line in filled[1:]], dialect, selection):
            sides = ("item", "user") if rows[0][0].lower().startswith("item") else ("user", "item")
            raise DataError(
                f"{name}: line {at}, {shortened(rows[0])}, seems to name a column for each {sides[1]}: "
                f"{MELT.format(*sides)}; or give --no-header if the line is a rating"
            )
        if selection.by_position(rows[0]):
            _check_names(rows[0], dialect, selection, f"{name}: line {at}")
        _check_begins_with_names(lines, at, rows[0], dialect, selection, name)
    columns = zip(*rows[int(dialect.names is None) :], strict=False)
    if quoted := [column[0] for column in columns if all(map(_is_in_single_quotes, column))]:
        log.warning(
            "%s: single quotes around a field, such as %s, are part of it; CSV has double ones", name, quoted[0]
        )


def _check_are_no_names(first: Sequence[str], dialect: Dialect, name: str) -> None:
    """Raise DataError for a first line of numbers that may be names, or one of too many to be a rating."""
    if len(first) > len(NAMES) and all(dialect.is_number(field or "0") for field in first):
        raise DataError(
            f"{name}: {len(first):,} numbers without names: give --columns user=1,item=2,rating=3 by position "
            "(a table with a column for each item must be turned into rows first)"
        )
    if list(first) == list(map(str, range(len(first)))):
        raise DataError(
            f"{name}: its first line, {','.join(first)}, may be a rating, or the names that a data frame gives to "
            "columns without names: give --no-header, or --columns user=0,item=1,rating=2"
        )


def _check_names(first: Sequence[str], dialect: Dialect, selection: Selection, line: str) -> None:
    """Raise DataError for a first line that gives no rating where one should be, and does not look like names."""
    chosen = {name: first[int(selection.renamed[name]) - 1] for name in RATING}
    seem_names = all(_is_name(field, dialect) for field in first if field) and all(chosen.values())
    if seem_names and not _begins_with_digit(chosen["rating"]):
        return
    empty = next((name for name, field in chosen.items() if not field), None)
    fault = f"{empty} is missing" if empty else f"rating {chosen['rating']!r} is not a number"
    commas = dialect.decimal == "." and "," in chosen["rating"]
    raise DataError(
        f"{line}: {fault}{' (--decimal , reads decimal commas)' if commas else ''}, and the line does not look like "
        "the names of the columns: correct or delete it, or give --columns by name if it has the names"
    )


def _is_name(field: str, dialect: Dialect) -> bool:
    return not dialect.is_number(field) and field.lower() not in MISSING


def _check_begins_with_names(
    lines: Sequence[str], at: int, first: Sequence[str], dialect: Dialect, selection: Selection, name: str
) -> None:
    """Raise DataError for a text whose names stand in a later line, or whose first line seems to be a row."""
    by_name = not any(map(str.isdecimal, selection.renamed.values()))
    for number, line in enumerate(lines[at : at + MOST_BEFORE - 1], at + 1):
        plain = (replace(dialect, separator=each, quotes=Quotes.NOTHING).split(line) for each in SEPARATORS)
        if by_name and any(selection.is_header([field.strip('" ') for field in fields]) for fields in plain):
            raise DataError(f"{name}: line {number} has the names of the columns: delete what stands before it")
    if len(first) >= len(RATING) and not selection.renamed and any(map(dialect.is_number, first)):
        shown = shortened(first)
        raise DataError(
            f"{name}: no column user, item, rating; the first line seems to be a row: {shown}. "
            "Give the columns by position, such as --columns user=1,item=2,rating=3"
        )


def _check_rows(rows: Sequence[Sequence[str]], dialect: Dialect, selection: Selection, line: str) -> None:
    """Check rows whose columns have no names: raise DataError for a time in two fields, and warn of what looks odd."""
    places = {name: selection.renamed.get(name, POSITIONS[name]) for name in RATING}
    places[TIMESTAMP] = selection.renamed.get(TIMESTAMP, "" if selection.renamed else POSITIONS[TIMESTAMP])
    time, rating = (int(places[name]) if places[name].isdecimal() else 0 for name in (TIMESTAMP, "rating"))
    first, name = rows[0], line.rpartition(":")[0]
    if dialect.separator == " " and 0 < time < len(first) and _is_date(first[time - 1]) and _is_hour(first[time]):
        raise DataError(
            f"{line}: a blank separates the date {first[time - 1]} from its hour: write T between them, "
            "or give --columns user=1,item=2,rating=3 to read no times"
        )
    counted = [str(number) for number in range(len(rows))]
    has_index = [row[0] for row in rows] in (counted, [str(int(number) + 1) for number in counted])
    if has_index and len(rows) >= FEWEST_COUNTED and len(first) > len(RATING) and not selection.places_ratings:
        log.warning(
            "%s: the first column counts the rows, and is read as the user: "
            "if it is the index of a data frame, give --columns user=2,item=3,rating=4",
            name,
        )
        return
    is_free = dialect.separator == "," != dialect.decimal and str(rating + 1) not in {places[name] for name in RATING}
    if is_free and all(_has_decimal_comma(row[rating - 1 : rating + 1]) for row in rows):
        log.warning(
            "%s: the numbers after the ratings, such as %s in %s, are no times: if ratings have decimal commas, "
            "write the fields in quotes or with another separator such as semicolons, and give --decimal ,",
            *(name, first[rating], ",".join(first)),
        )


def _has_decimal_comma(fields: Sequence[str]) -> bool:
    """Whether a rating and the field after it may be one number such as 4,5."""
    return len(fields) > 1 and fields[0].isdecimal() and _is_fraction(fields[1]) is not None


def _is_in_single_quotes(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == "'"
