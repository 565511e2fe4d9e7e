"""What a ratings store says of items. The service keeps it, and the offline job reads it; both follow these rules.

Many items are a table with the columns `COLUMNS`: a million as objects take seconds and a gigabyte. It knows neither
databases nor models. Shapes: I items of a catalogue, N of a store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TABLE = "ratecast_items"
DESCRIBED = ("title", "year", "genres", "labels")  # the columns of a catalogue that an item replaces
LISTS = ("genres", "labels")  # JSON in the table
NAMES = pa.list_(pa.string())
COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("genres", NAMES),
        pa.field("labels", NAMES),
        pa.field("hidden", pa.bool_(), nullable=False),
        pa.field("available_from", pa.int64()),
        pa.field("available_until", pa.int64()),
        pa.field("deleted", pa.bool_(), nullable=False),
    ]
)


class StoredItem(NamedTuple):
    """What the store says of an item; times are seconds since 1970, None where there is no bound."""

    id: str
    title: str | None = None
    year: int | None = None
    genres: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    hidden: bool = False
    available_from: int | None = None
    available_until: int | None = None
    deleted: bool = False

    @classmethod
    def of_row(cls, row: Any) -> StoredItem:
        """The item of a row of the table, whose columns are in the order of the fields."""
        id_, title, year, genres, labels, hidden, begin, end, deleted = row[:9]
        return cls(id_, title, year, _names(genres), _names(labels), bool(hidden), begin, end, bool(deleted))

    def to_row(self) -> dict[str, Any]:
        """The row of the table."""
        fields = ("title", "year", "hidden", "available_from", "available_until", "deleted")
        lists = {name: getattr(self, name) for name in LISTS}
        texts = {name: None if value is None else json.dumps(value) for name, value in lists.items()}
        return {"item": self.id, **{name: getattr(self, name) for name in fields}, **texts}

    def description(self) -> dict[str, Any]:
        """The columns of a catalogue that it replaces."""
        return {name: getattr(self, name) for name in DESCRIBED}


def of_rows(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """The items of some rows of the table, whose columns are in the order of `COLUMNS`."""
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    return pa.table([_column(*each) for each in zip(COLUMNS, columns, strict=True)], COLUMNS)


def of_items(items: Iterable[StoredItem]) -> pa.Table:
    """The same of items."""
    columns = [*zip(*items, strict=True)] or [()] * len(COLUMNS)
    return pa.table([pa.array(values, field.type) for field, values in zip(COLUMNS, columns, strict=True)], COLUMNS)


def item_at(table: pa.Table, row: int) -> StoredItem:
    """One item of a table."""
    values = (table[name][row].as_py() for name in COLUMNS.names)
    return StoredItem._make(tuple(value) if isinstance(value, list) else value for value in values)


def newest(table: pa.Table) -> pa.Table:
    """The last row of each id."""
    codes_N = table["id"].combine_chunks().dictionary_encode()
    last = np.empty(len(codes_N.dictionary), np.int64)
    last[codes_N.indices.to_numpy()] = np.arange(len(table))
    return table if len(last) == len(table) else table.take(pa.array(np.sort(last)))


def is_shown(table: pa.Table, now: float) -> npt.NDArray[np.bool_]:
    """Which items may be in lists at a time, (N,)."""
    second = int(now)  # times are whole seconds
    begin_N = pc.fill_null(pc.less_equal(table["available_from"], second), True)
    end_N = pc.fill_null(pc.greater(table["available_until"], second), True)
    out_N = pc.or_(table["hidden"], table["deleted"])
    return np.asarray(pc.and_(pc.and_(begin_N, end_N), pc.invert(out_N)), np.bool_)


def timed(table: pa.Table) -> pa.Table:
    """The items that time shows or hides."""
    return table.filter(pc.or_(pc.is_valid(table["available_from"]), pc.is_valid(table["available_until"])))


def next_change(table: pa.Table, now: float) -> float:
    """When one of them appears or disappears by itself next; infinite where none does."""
    times = (table[name] for name in ("available_from", "available_until"))
    found = (pc.min(each.filter(pc.greater(each, int(now)))).as_py() for each in times)
    return min((time for time in found if time is not None), default=float("inf"))


def described(catalogue: pa.Table, rows_N: npt.NDArray[np.int64], stored: pa.Table) -> pa.Table:
    """A catalogue with the titles, years, genres and labels that a store says of some of its rows."""
    places_I = np.arange(len(catalogue))
    places_I[rows_N] = len(catalogue) + np.arange(len(stored))
    rows, places = pa.array(rows_N), pa.array(places_I)
    for name in DESCRIBED:
        before, field = catalogue[name], catalogue.schema.field(name)
        values = stored[name].cast(field.type)
        if not values.equals(before.take(rows)):  # a column that stays may be mapped from a checkpoint
            both = pa.concat_arrays([*before.chunks, *values.chunks])
            catalogue = catalogue.set_column(catalogue.schema.get_field_index(name), field, both.take(places))
    return catalogue


def _column(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    if field.name in LISTS:
        texts = pa.array(values, pa.string()).dictionary_encode()
        lists = pa.array([_names(text) for text in texts.dictionary.to_pylist()], NAMES)
        return lists.take(texts.indices)
    if pa.types.is_boolean(field.type):  # numbers in SQLite
        return pa.array(np.array(values, np.bool_))
    return pa.array(values, field.type)


@lru_cache(4_096)  # many items have the same genres
def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
