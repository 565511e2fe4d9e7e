"""What a ratings store says of items. The service keeps it, and the offline job reads it; both follow these rules.

It knows neither databases nor models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

TABLE = "ratecast_items"
DESCRIBED = ("title", "year", "genres", "labels")  # the columns of a catalogue that an item replaces
LISTS = ("genres", "labels")  # JSON in the table


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

    @property
    def is_timed(self) -> bool:
        """Whether time shows or hides it."""
        return self.available_from is not None or self.available_until is not None

    def is_shown(self, now: float) -> bool:
        """Whether it may be in lists at a time."""
        begun = self.available_from is None or self.available_from <= now
        return begun and not self.hidden and not self.deleted and not self._ended(now)

    def _ended(self, now: float) -> bool:
        return self.available_until is not None and self.available_until <= now

    def next_change(self, now: float) -> float:
        """When it appears or disappears by itself next; infinite where it does not."""
        return min((at for at in (self.available_from, self.available_until) if at and at > now), default=float("inf"))


@lru_cache(4_096)  # many items have the same genres
def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def described(table: pa.Table, stored: Mapping[int, StoredItem]) -> pa.Table:
    """A catalogue with the titles, years, genres and labels that a store says of some of its rows."""
    if not stored:
        return table
    rows = list(stored)
    changed = table.take(pa.array(rows))
    for name in DESCRIBED:
        values = pa.array([getattr(item, name) for item in stored.values()], table.schema.field(name).type)
        changed = changed.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    if changed.equals(table.take(pa.array(rows))):  # it takes a thousandth of the time to find out for a few rows
        return table
    places = np.arange(len(table))
    places[rows] = len(table) + np.arange(len(rows))
    return pa.concat_tables([table, changed]).take(pa.array(places))
