"""Turns the columns of a catalogue into texts, years, genres and labels. It knows no files.

A column is texts, lists of texts, or JSON: what holds objects in JSON lines.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import warnings
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from models.ids import trimmed
from training.data import columns
from training.data.origin import shortened
from training.errors import DataError

log = logging.getLogger(__name__)
Fault = Callable[[str, int], DataError]
TEXTS = pa.list_(pa.string())
JSON = pa.json_(pa.string())
GAP = r"\N"  # as IMDb and MySQL write a missing value
NO_GENRE = ("", GAP, "unknown", "(no genres listed)")
LONGEST_LABEL = 64  # characters; longer texts describe an item, and select none
LONGEST_LITERAL = 10_000  # characters of a list that is written as a text
NEIGHBOURS = re.compile(r"""['"]\s+['"]""")  # ['a' 'b'], as NumPy writes it, which Python reads as one text
ENTITY = re.compile(r"&#?\w+;")
# "Toy Story (1995)", "Land Before Time III (1995) (V)", "Death Note (2006–2007)"
TITLE_AND_YEAR = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)\s*(?:\(V\))?\s*")
YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")
YEARS = range(1000, 2101)


def texts(column: pa.Array) -> pa.Array:
    """A column of any type as trimmed texts, as lists of them, or as JSON; null where there is nothing.

    Numbers are written as ids are. Of a list of records with a text `name` the names are taken. Raises TypeError,
    ValueError or pa.ArrowException for a type or a value that cannot be read so.
    """
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == JSON:
        return column
    if isinstance(column.type, pa.BaseExtensionType) or pt.is_floating(column.type) or pt.is_decimal(column.type):
        return columns.ids(column).cast(pa.string())
    if is_list(column.type):
        values = column.flatten()
        if pt.is_struct(values.type) and values.type.get_field_index("name") >= 0:
            values = pc.struct_field(values, "name")
        values = texts(values)
        if values.type != pa.string():
            raise TypeError
        each, lengths = iter(values.to_pylist()), pc.list_value_length(column).to_pylist()
        lists = [None if length is None else [next(each) for _ in range(length)] for length in lengths]
        return pa.array([value and [text for text in value if text is not None] for value in lists], TEXTS)
    if pt.is_nested(column.type):
        raise TypeError
    found = trimmed(column.cast(pa.string()))
    return pc.if_else(pc.equal(found, GAP), pa.scalar(None, pa.string()), found)


def is_list(type_: pa.DataType) -> bool:
    """Whether a type is one of lists."""
    return bool(pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_))


def titles(column: pa.Array) -> list[str | None]:
    """Texts; those of a list with commas between them."""
    values = column.to_pylist()
    return [", ".join(value) if isinstance(value, list) else value for value in values]


def title_and_year(text: str | None) -> tuple[str | None, int | None]:
    """A title without the year at its end, and that year."""
    found = TITLE_AND_YEAR.fullmatch(text or "")
    if not found or int(found["year"]) not in YEARS:
        return text, None
    return " ".join(found["title"].split()), int(found["year"])


def years(column: pa.Array) -> list[int | None]:
    """The first number of four digits in each value, if it is one of `YEARS`."""
    given = titles(column)
    found = [YEAR.search(text or "") for text in given]
    known = [int(year[0]) if year and int(year[0]) in YEARS else None for year in found]
    if unread := [text for text, year in zip(given, known, strict=True) if text is not None and year is None]:
        log.warning(
            "%d years, such as %s, are not of four digits between %d and %d: those items have no year",
            len(unread),
            shortened([unread[0]]),
            YEARS[0],
            YEARS[-1],
        )
    return known


def genres(column: pa.Array, fault: Fault) -> list[list[str] | None]:
    """The genres of each item: a list of texts, a list that is written as JSON or Python, or a text with separators.

    A list may have objects with a `name`. The separator is | if any text has one, else ; or a comma, whichever more
    texts have. No genre has a comma, and none is there twice. Raises what `fault` makes of a problem and a row.
    """
    values = column.to_pylist()
    if column.type == JSON:
        values = [json.loads(value) if (value or "").startswith('"') else value for value in values]
    separator = _separator([value for value in values if isinstance(value, str) and not _is_literal(value)])
    found: list[list[str] | None] = []
    for row, value in enumerate(values):
        names = value
        if isinstance(value, str):
            names = _literal(value) if _is_literal(value) else value.split(separator)
            if names is None:
                raise fault(
                    f"genres {shortened([value])} cannot be read: "
                    "write names with | between them, or a list of texts or of objects with a name",
                    row,
                )
        named = (name.strip() for name in names or ())
        found.append(None if names is None else [*dict.fromkeys(name for name in named if name not in NO_GENRE)])
        if separator == "," and isinstance(value, str) and not _is_literal(value) and ";" in ENTITY.sub("", value):
            raise fault(
                f"genres {shortened([value])} have semicolons, where commas separate genres: put | between them", row
            )
        if commas := [name for name in found[-1] or () if "," in name]:
            raise fault(
                f"genre {commas[0]!r} has a comma, which separates the names that a list is asked for: "
                "put | between genres, or another character in this one",
                row,
            )
    return found


def _separator(values: Sequence[str]) -> str:
    if any("|" in value for value in values):
        return "|"
    semicolons, commas = (sum(sign in ENTITY.sub("", value) for value in values) for sign in ";,")
    return ";" if semicolons > commas else ","


def _is_literal(text: str) -> bool:
    return text.strip()[:1] + text.strip()[-1:] in ("[]", "{}")


def _literal(text: str) -> list[str] | None:
    """The names in a list that is written as JSON or Python; None if it is none, or has anything else."""
    if len(text) > LONGEST_LITERAL:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if NEIGHBOURS.search(text):
            return None
        try:
            with warnings.catch_warnings(action="ignore"):  # of backslashes
                found = ast.literal_eval(text.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return None
    if not isinstance(found, list):
        return None
    names = [each.get("name") if isinstance(each, dict) else each for each in found]
    known = [name for name in names if isinstance(name, str)]
    return known if len(known) == len(names) else None


def labels(table: pa.Table) -> list[list[str] | None]:
    """`column:value` of each column, unless it holds longer texts; none has a comma."""
    found: list[list[str]] = [[] for _ in range(len(table))]
    for name in table.column_names:
        values = table[name].to_pylist()
        known = [value if isinstance(value, list) else [] if value is None else [value] for value in values]
        longest = max((len(each) for value in known for each in value), default=0)
        if longest > LONGEST_LABEL:
            log.info("the column %s gives no labels, because it has a text of %d characters", name, longest)
            continue
        if commas := [each for value in known for each in value if "," in f"{name}:{each}"]:
            log.warning(
                "the column %s gives no labels of texts with a comma, such as %r (%d in all), because commas separate "
                "the names that a list is asked for",
                *(name, commas[0], len(commas)),
            )
        for of_item, value in zip(found, known, strict=True):
            of_item.extend(dict.fromkeys(f"{name}:{each}".strip() for each in value if "," not in f"{name}:{each}"))
    return [each or None for each in found]
