"""Reads what is known about items or users: a catalogue with titles, years, genres and labels, or any attributes.

A file has a row for each id; ids follow the same rule as in ratings.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from models.ids import trimmed, without_zero_fractions
from models.stored_items import StoredItem
from training.data import columns, files
from training.data.origin import Origin, Selection
from training.errors import DataError
from training.options import SourceOptions

log = logging.getLogger(__name__)
TEXTS = pa.list_(pa.string())
ITEM_SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "year": pa.int32(), "genres": TEXTS, "labels": TEXTS})
SHOWN_SCHEMA = pa.schema({"hidden": pa.bool_(), "available_from": pa.int64(), "available_until": pa.int64()})
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}
NO_GENRE = ("", "unknown", "(no genres listed)")
LONGEST_LABEL = 64  # characters; longer texts describe an item, and select none
# "Toy Story (1995)", "Land Before Time III (1995) (V)", "Death Note (2006–2007)"
TITLE_AND_YEAR = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)\s*(?:\(V\))?\s*")
YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")


def read_attributes(source: str, side: str, options: SourceOptions) -> pa.Table:
    """The columns of a file of users or items (`side`): `id`, and all others as they are.

    Raises DataError or ConfigError.
    """
    names = {"id": (side, options.columns.get(side, side))}
    selection = Selection(renamed={}, required=("id",), optional=(), others=True, synonyms=names)
    return _described(source, selection, options)


def read_items(source: str, renamed: Mapping[str, str], options: SourceOptions) -> pa.Table:
    """A catalogue, as `ITEM_SCHEMA` has it, null if nothing is known, and those columns of `SHOWN_SCHEMA` that it has.

    `renamed` is what --item-columns gives: our name → the file's. Columns with other names become labels: `color:red`.
    Without a column of years they are taken from the ends of titles: `Heat (1995)`. Raises DataError or ConfigError.
    """
    selection = Selection(
        renamed=renamed,
        option="--item-columns",
        required=("id",),
        optional=("title", "year", "genres", *SHOWN_SCHEMA.names),
        others=True,
        synonyms={"id": ("item", options.columns.get("item", "item"))},
    )
    table = _described(source, selection, options)
    known: dict[str, object] = {"id": table["id"], "labels": pa.array(_labels(table), TEXTS)}
    if "title" in table.column_names:
        known["title"] = _texts(table["title"])
    if "genres" in table.column_names:
        known["genres"] = pa.array(_genres(table["genres"]), TEXTS)
    if "year" in table.column_names:
        known["year"] = pa.array(_years(table["year"]), pa.int32())
    elif "title" in known:
        pairs = list(map(title_and_year, _texts(table["title"])))
        known |= {"title": [title for title, _ in pairs], "year": pa.array([year for _, year in pairs], pa.int32())}
    shown = [field for field in SHOWN_SCHEMA if field.name in table.column_names]
    known |= {field.name: _shown(source, table[field.name], field.name) for field in shown}
    schema = pa.schema([*ITEM_SCHEMA, *shown])
    nulls = {field.name: pa.nulls(len(table), field.type) for field in schema}
    return pa.table(nulls | known, schema)


def _shown(source: str, column: pa.ChunkedArray, name: str) -> pa.Array:
    """Whether items are hidden, or from or until when they are available. Raises DataError."""
    array = column.combine_chunks()
    try:
        if name == "hidden":
            return pa.array([TRUTHS[str(value or "").strip().lower()] for value in array.to_pylist()], pa.bool_())
        ticks, bad, in_seconds = columns.ticks(array)
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{source}: column {name}: cannot be read as true and false or as times: {error}") from error
    missing = columns.missing(array)
    if (bad & ~missing).any():
        value = array[int((bad & ~missing).argmax())].as_py()
        raise DataError(f"{source}: column {name}: {value!r} is neither a number of seconds nor an ISO 8601 time")
    unit = 1 if in_seconds else columns.ticks_per_second(int(abs(ticks[~missing]).max(initial=0)))
    return pa.array(ticks // unit, pa.int64(), mask=missing)


def title_and_year(text: str | None) -> tuple[str | None, int | None]:
    """A title without the year at its end, and that year."""
    found = TITLE_AND_YEAR.fullmatch(text or "")
    return (" ".join(found["title"].split()), int(found["year"])) if found else (text, None)


def check_overlap(items: pa.Table, ids: pa.StringArray) -> None:
    """Log how many of the rated items are described. Raises DataError if none is, because the ids do not match."""
    known = pc.sum(pc.is_in(ids, value_set=items["id"].combine_chunks())).as_py() or 0
    if not known:
        raise DataError(
            f"--items describes none of the rated items: the ratings have ids such as {ids[0]}, and the items such as "
            f"{items['id'][0]}; --item-columns id=COLUMN names another column"
        )
    if known < len(ids):
        log.info("%d of %d items are not described by --items", len(ids) - known, len(ids))


def with_stored(items: pa.Table | None, stored: Sequence[StoredItem]) -> pa.Table:
    """A catalogue, `ITEM_SCHEMA`, with what a ratings store says of items instead; one that it deleted is in none."""
    table = ITEM_SCHEMA.empty_table() if items is None else items.select(ITEM_SCHEMA.names).cast(ITEM_SCHEMA)
    others = table.filter(
        pc.invert(pc.is_in(table["id"], value_set=pa.array([item.id for item in stored], pa.string())))
    )
    shown = [{"id": item.id} | item.description() for item in stored if not item.deleted]
    return pa.concat_tables([others, pa.Table.from_pylist(shown, ITEM_SCHEMA)]).combine_chunks()


def _described(source: str, selection: Selection, options: SourceOptions) -> pa.Table:
    """A table with one row for each id. An encoding that is given for the ratings also applies to this file."""
    tables = []
    for file in files.found(source):
        batches, origin = files.read(file, SourceOptions(encoding=options.encoding), selection)
        rows = list(batches)
        if not rows:
            continue
        table = pa.Table.from_batches(rows)
        tables.append(table.set_column(table.column_names.index("id"), "id", _ids(table["id"], origin)))
    if not any(map(len, tables)):
        raise DataError(f"{source}: no rows")
    table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    counts = pc.value_counts(table["id"].combine_chunks())
    if len(counts) < len(table):
        repeated = counts.field("values")[int(counts.field("counts").to_numpy().argmax())]
        raise DataError(f"{source}: the id {repeated} has more than one row")
    return table


def _ids(column: pa.ChunkedArray, origin: Origin) -> pa.StringArray:
    try:
        found = columns.ids(column.combine_chunks()).cast(pa.string())
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise origin.error(f"column id: {error}") from error
    row = pc.index(found.is_null(), True).as_py()
    if row >= 0:
        raise origin.error("id is missing", row)
    return without_zero_fractions(found)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """The values of a column as texts, None if there is nothing."""
    array = column.combine_chunks()
    if _is_list(array.type):
        return [None if value is None else ", ".join(map(str, value)) for value in array.to_pylist()]
    is_number = pt.is_floating(array.type) or pt.is_decimal(array.type)
    texts = columns.ids(array).cast(pa.string()) if is_number else trimmed(array.cast(pa.string()))
    found: list[str | None] = texts.to_pylist()
    return found


def _is_list(type_: pa.DataType) -> bool:
    return bool(pt.is_list(type_) or pt.is_large_list(type_))


def _years(column: pa.ChunkedArray) -> list[int | None]:
    """The first number of four digits in each value."""
    texts = _texts(column)
    found = [YEAR.search(text or "") for text in texts]
    unread = [text for text, year in zip(texts, found, strict=True) if text is not None and year is None]
    if unread:
        log.warning("%d years, such as %s, do not have four digits: those items have no year", len(unread), unread[0])
    return [None if year is None else int(year[0]) for year in found]


def _genres(column: pa.ChunkedArray) -> list[list[str] | None]:
    """The genres of each item: a list, or a text with | or, if no text has one, commas between them."""
    values = column.to_pylist()
    separator = "|" if any("|" in value for value in values if isinstance(value, str)) else ","
    lists = [value.split(separator) if isinstance(value, str) else value for value in values]
    return [None if value is None else [genre.strip() for genre in value if _is_genre(genre)] for value in lists]


def _is_genre(genre: str | None) -> bool:
    return genre is not None and genre.strip() not in NO_GENRE


def _labels(table: pa.Table) -> list[Sequence[str] | None]:
    """`column:value` of each column with another name than ours, unless it holds longer texts."""
    labels: list[list[str]] = [[] for _ in range(len(table))]
    for name in (name for name in table.column_names if name not in (*ITEM_SCHEMA.names, *SHOWN_SCHEMA.names)):
        column = table[name]
        values = column.to_pylist() if _is_list(column.type) else [[text] for text in _texts(column)]
        known = [[str(each) for each in value or () if each is not None] for value in values]
        longest = max((len(each) for value in known for each in value), default=0)
        if longest > LONGEST_LABEL:
            log.info("the column %s gives no labels, because it has a text of %d characters", name, longest)
            continue
        for of_item, value in zip(labels, known, strict=True):
            of_item += [f"{name}:{each}" for each in value]
    return [found or None for found in labels]
