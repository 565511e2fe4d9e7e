"""Reads what is known about items or users: a catalogue with titles, years, genres and labels, or any attributes.

A file has a row for each id; ids follow the same rule as in ratings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from models.ids import without_zero_fractions
from models.stored_items import StoredItem
from training.data import catalogue, columns, files
from training.data.catalogue import JSON, TEXTS
from training.data.origin import Origin, Selection, shortened
from training.data.times import SECONDS, Ticks, in_seconds
from training.errors import DataError
from training.options import SourceOptions

log = logging.getLogger(__name__)
ITEM_SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "year": pa.int32(), "genres": TEXTS, "labels": TEXTS})
TIMES = ("available_from", "available_until")
SHOWN_SCHEMA = pa.schema({"hidden": pa.bool_(), **dict.fromkeys(TIMES, pa.int64())})
KNOWN = (*ITEM_SCHEMA.names, *SHOWN_SCHEMA.names)
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, None: False}
READS = {
    "title": "texts",
    "year": "years",
    "genres": "texts, lists of texts or lists of objects with a name",
    "hidden": "true and false",
}
UNREADABLE = (TypeError, ValueError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of a file, whose ids are texts."""

    table: pa.Table
    origin: Origin


def read_attributes(source: str, side: str, options: SourceOptions) -> pa.Table:
    """The columns of a file of users or items (`side`): `id`, and all others as they are; those of JSON objects not.

    `options` apply as they stand. Raises DataError or ConfigError.
    """
    names = {"id": (side, options.columns.get(side, side))}
    selection = Selection(renamed={}, option="", required=("id",), optional=(), others=True, synonyms=names)
    parts = _parts(source, selection, options)
    left_out = {field.name for part in parts for field in part.table.schema if field.type == JSON}
    _tell_of_left_out(left_out, source)
    parts = [_Part(_without(part.table, left_out), part.origin) for part in parts]
    types: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for column in part.table.schema:
            types.setdefault(column.name, set()).add(column.type)
    mixed = {name for name, found in types.items() if len(found) > 1}
    return _joined([_Part(_as_texts(part, mixed, mixed), part.origin) for part in parts], source)


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
    parts = _parts(source, selection, options)
    others = {name for part in parts for name in part.table.column_names if name not in KNOWN}
    texts = [_Part(_as_texts(part, {*READS, *others}, set(READS)), part.origin) for part in parts]
    _tell_of_left_out(others - {name for part in texts for name in part.table.column_names}, source)
    table = _joined([_Part(_without(part.table, TIMES), part.origin) for part in texts], source)
    there = table.column_names
    labelled = table.select([name for name in there if name in others and table[name].type != JSON])
    _tell_of_left_out({name for name in there if name in others} - {*labelled.column_names}, source)
    known: dict[str, object] = {"id": table["id"], "labels": pa.array(catalogue.labels(labelled), TEXTS)}
    if "title" in there:
        known["title"] = catalogue.titles(table["title"])
    if "genres" in there:
        found = catalogue.genres(table["genres"].combine_chunks(), lambda problem, row: _fault(parts, problem, row))
        known["genres"] = pa.array(found, TEXTS)
    if "year" in there:
        known["year"] = pa.array(catalogue.years(table["year"]), pa.int32())
    elif "title" in there:
        pairs = list(map(catalogue.title_and_year, catalogue.titles(table["title"])))
        known |= {"title": [title for title, _ in pairs], "year": pa.array([year for _, year in pairs], pa.int32())}
    if "hidden" in there:
        known["hidden"] = _hidden(table["hidden"], parts)
    known |= {name: _times(name, parts) for name in TIMES if any(name in part.table.column_names for part in parts)}
    schema = pa.schema([*ITEM_SCHEMA, *(field for field in SHOWN_SCHEMA if field.name in known)])
    nulls = {field.name: pa.nulls(len(table), field.type) for field in schema}
    return pa.table(nulls | known, schema)


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


def _parts(source: str, selection: Selection, options: SourceOptions) -> list[_Part]:
    """The files of a source, each id once. Raises DataError or ConfigError."""
    parts = []
    for file in files.found(source):
        batches, origin = files.read(file, options, selection)
        if rows := list(batches):
            table = pa.Table.from_batches(rows)
            _check_no_names(table, selection, origin)
            ids = _ids(table["id"], origin)
            parts.append(_Part(table.set_column(table.column_names.index("id"), "id", ids), origin))
    if not any(len(part.table) for part in parts):
        raise DataError(f"{source}: no rows")
    ids = pa.chunked_array([part.table["id"].combine_chunks() for part in parts], pa.string()).combine_chunks()
    codes = ids.dictionary_encode().indices.to_numpy()
    if len(repeated := _repeats(codes)):
        raise _fault(parts, f"the id {ids[repeated[0]]} has more than one row", int(repeated[0]))
    return parts


def _repeats(codes_N: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The rows whose code an earlier row has."""
    first = np.unique(codes_N, return_index=True)[1]
    return np.setdiff1d(np.arange(len(codes_N)), first)


def _fault(parts: Sequence[_Part], problem: str, row: int) -> DataError:
    """The error that names a row of all."""
    for part in parts:
        if row < len(part.table):
            return part.origin.error(problem, row)
        row -= len(part.table)
    raise IndexError(row)


def _check_no_names(table: pa.Table, selection: Selection, origin: Origin) -> None:
    """Raise DataError for a row that repeats the names of the columns, as joined files have it."""
    same = pa.array(np.ones(len(table), np.bool_))
    if any(not pt.is_string(field.type) for field in table.schema) or any(
        map(str.isdecimal, selection.renamed.values())
    ):
        return
    for name in table.column_names:
        theirs = pa.array([name, selection.renamed.get(name, name), *selection.synonyms.get(name, ())])
        same = pc.and_(same, pc.is_in(pc.utf8_trim_whitespace(table[name].combine_chunks()), value_set=theirs))
    if (row := pc.index(same, True).as_py()) >= 0:
        raise origin.error("the names of the columns stand there again: delete the line", row)


def _ids(column: pa.ChunkedArray, origin: Origin) -> pa.StringArray:
    try:
        found = columns.ids(column.combine_chunks()).cast(pa.string())
    except UNREADABLE as error:
        raise origin.error(f"column id: {error}") from error
    row = pc.index(found.is_null(), True).as_py()
    if row >= 0:
        raise origin.error("id is missing", row)
    return without_zero_fractions(found)


def _without(table: pa.Table, names: Iterable[str]) -> pa.Table:
    return table.drop_columns([name for name in names if name in table.column_names])


def _as_texts(part: _Part, names: Iterable[str], needed: Iterable[str]) -> pa.Table:
    """The part with some columns as `catalogue.texts`, without those that cannot be read so.

    Raises DataError if one of these is needed.
    """
    table = part.table
    for name in [name for name in table.column_names if name in names]:
        column = table[name].combine_chunks()
        try:
            found = _checked(name, catalogue.texts(column), column.type)
        except UNREADABLE as error:
            if name in needed:
                reads = READS.get(name, "numbers or texts")
                raise part.origin.error(f"column {name}: values of type {column.type} are not {reads}") from error
            table = table.drop_columns([name])
        else:
            table = table.set_column(table.column_names.index(name), name, found)
    return table


def _checked(name: str, found: pa.Array, type_: pa.DataType) -> pa.Array:
    """The column. Raises TypeError if its type is not one of `READS`."""
    of_values = type_.value_type if catalogue.is_list(type_) or pt.is_dictionary(type_) else type_
    if name == "genres" and not (pt.is_nested(of_values) or of_values == JSON or _is_text(of_values)):
        raise TypeError
    if name in READS and name != "genres" and found.type == JSON:
        raise TypeError
    return found


def _is_text(type_: pa.DataType) -> bool:
    kinds = (pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_binary, pt.is_null)
    return any(kind(type_) for kind in kinds)


def _joined(parts: Sequence[_Part], source: str) -> pa.Table:
    """All rows. Raises DataError for a column of which one part has texts and another lists or objects."""
    types: dict[str, pa.DataType] = {}
    tables = []
    for part in parts:
        table = part.table
        for at, field in enumerate(table.schema):
            if pt.is_null(field.type) or (table[at].null_count == len(table) and field.name != "id"):
                table = table.set_column(at, field.name, pa.nulls(len(table)))
            elif types.setdefault(field.name, field.type) != field.type:
                problem = f"column {field.name}: {field.type} here, {types[field.name]} in another file of {source}"
                raise part.origin.error(problem)
        tables.append(table)
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    for at, field in enumerate(table.schema):
        if pt.is_null(field.type):
            table = table.set_column(at, field.name, pa.nulls(len(table), pa.string()))
    return table


def _tell_of_left_out(names: Iterable[str], source: str) -> None:
    if found := sorted(names):
        log.warning(
            "%s: columns that are left out, because they hold no texts or numbers: %s", source, shortened(found)
        )


def _hidden(column: pa.ChunkedArray, parts: Sequence[_Part]) -> pa.Array:
    values = [value.lower() if isinstance(value, str) else value for value in column.to_pylist()]
    for row, value in enumerate(values):
        if isinstance(value, list) or value not in TRUTHS:
            raise _fault(parts, f"hidden {value!r} is neither true nor false", row)
    return pa.array([TRUTHS[value] for value in values], pa.bool_())


def _times(name: str, parts: Sequence[_Part]) -> pa.Array:
    """Times in seconds since 1970, of one unit in all parts. Raises DataError."""
    chunks = [_ticks(name, part) for part in parts]
    return pa.concat_arrays([each.cast(pa.int64()) for each in in_seconds(chunks)])


def _ticks(name: str, part: _Part) -> Ticks:
    if name not in part.table.column_names:
        return Ticks(pa.nulls(len(part.table), pa.int64()), part.origin, 0, name)
    array = part.table[name].combine_chunks()
    try:
        if pt.is_boolean(array.type) or pt.is_nested(array.type) or array.type == JSON:
            raise TypeError
        ticks_N, bad_N, are_seconds = columns.ticks(array)
    except UNREADABLE as error:
        raise part.origin.error(f"column {name}: values of type {array.type} are not times") from error
    missing_N = columns.missing(array)
    if (bad_N & ~missing_N).any():
        row = int((bad_N & ~missing_N).argmax())
        raise part.origin.error(
            f"{name} {array[row].as_py()!r} is neither a number nor an ISO 8601 time up to the year 2100", row
        )
    ticks = pa.array(ticks_N, mask=missing_N)
    return Ticks(ticks.cast(SECONDS) if are_seconds else ticks, part.origin, 0, name)
