"""What is known about the items of a checkpoint: titles, years, genres, labels. It knows rows, not scores.

Shapes: I items, N of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.engine.documents import Genre
from app.engine.types import ItemFilter, shortest
from models.stored_items import described, is_shown

CACHED_TITLES = 16_384  # of the items listed most lately; looking one up takes 4 µs, ten are a list
ACCENTS = r"\p{Mn}+"


class Title(NamedTuple):
    """The id, title and year of an item, as lists show them."""

    id: str
    title: str | None
    year: int | None


class Catalogue:
    """The items of a checkpoint.

    Args:
        table: one row an item, with the columns of `models.checkpoint.reader.ITEM_SCHEMA`.
        shown_I: which items lists and searches may show; None for all.

    Attributes:
        title: id, title and year of an item's row.
    """

    title: Callable[[int], Title]

    def __init__(self, table: pa.Table, shown_I: npt.NDArray[np.bool_] | None = None) -> None:
        self._table, self.shown_I = table, shown_I
        self.title = lru_cache(CACHED_TITLES)(partial(_title, table["id"], table["title"], table["year"]))

    def with_items(self, rows_N: npt.NDArray[np.int64], stored: pa.Table, now: float) -> Catalogue:
        """The catalogue with what a store says of some rows instead; the time decides what is shown of them."""
        shown_I = np.ones(len(self._table), np.bool_) if self.shown_I is None else self.shown_I.copy()
        shown_I[rows_N] = is_shown(stored, now)
        return Catalogue(described(self._table, rows_N, stored), None if shown_I.all() else shown_I)

    def record(self, row: int) -> dict[str, Any]:
        """All that is known about one item."""
        (record,) = _records(self._table.slice(row, 1))
        return record

    def records(self, rows_N: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """All that is known about some items."""
        return _records(self._table.take(pa.array(rows_N)))

    def allowed(self, wanted: ItemFilter) -> npt.NDArray[np.bool_]:
        """Which items pass a filter, (I,). An item whose year is unknown is outside every span of years."""
        years = self._table["year"]
        mask_I = np.ones(len(self._table), np.bool_)
        for column, texts in (("genres", wanted.genre), ("labels", wanted.label)):
            for text in texts:
                mask_I &= self._having(column, text.split(","))
        if wanted.year_min is not None:
            mask_I &= np.asarray(pc.fill_null(pc.greater_equal(years, wanted.year_min), False))
        if wanted.year_max is not None:
            mask_I &= np.asarray(pc.fill_null(pc.less_equal(years, wanted.year_max), False))
        shown_I = np.ones(len(self._table), np.bool_) if self.shown_I is None else self.shown_I
        return mask_I & (~shown_I if wanted.hidden else shown_I)

    @cached_property
    def folded_titles(self) -> pa.Array:
        """The titles as `fold_text` makes them, for searches."""
        return fold_text(self._table["title"])

    @cached_property
    def genres(self) -> list[Genre]:
        """The genres, the most frequent first."""
        shown = self._table["genres"] if self.shown_I is None else self._table["genres"].filter(pa.array(self.shown_I))
        counts = pc.value_counts(pc.drop_null(pc.list_flatten(shown))).to_pylist()
        found = [Genre(name=count["values"], items=count["counts"]) for count in counts]
        return sorted(found, key=lambda genre: (-genre.items, genre.name))

    def _having(self, column: str, names: list[str]) -> npt.NDArray[np.bool_]:
        """Which items have one of some genres, or labels, (I,)."""
        lists = self._table[column]
        items = np.repeat(np.arange(len(lists)), pc.fill_null(pc.list_value_length(lists), 0))
        wanted = pa.array([name.strip() for name in names], pa.string())
        mask_I = np.zeros(len(lists), dtype=np.bool_)
        mask_I[items[np.asarray(pc.is_in(pc.list_flatten(lists), value_set=wanted))]] = True
        return mask_I


def fold_text(texts: pa.ChunkedArray) -> pa.Array:
    """Texts as searches compare them: in lower case and without accents. Most have no accents and are not changed."""
    folded = pc.utf8_lower(texts).combine_chunks()
    accented_N = pc.fill_null(pc.invert(pc.string_is_ascii(folded)), False)
    bare = pc.replace_substring_regex(pc.utf8_normalize(folded.filter(accented_N), "NFKD"), ACCENTS, "")
    return pc.replace_with_mask(folded, accented_N, bare)


def _records(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of the table as they are answered, where an item's id is called `item`."""
    records: list[dict[str, Any]] = table.rename_columns({"id": "item"}).to_pylist()
    means = shortest(table["mean_rating"].to_numpy())
    return [record | {"mean_rating": mean} for record, mean in zip(records, means, strict=True)]


def _title(ids: pa.ChunkedArray, titles: pa.ChunkedArray, years: pa.ChunkedArray, row: int) -> Title:
    return Title(ids[row].as_py(), titles[row].as_py(), years[row].as_py())
