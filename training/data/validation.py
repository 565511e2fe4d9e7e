"""The checks of every source: batches of named columns become interactions. It knows no file formats.

Shapes: N ratings, C rows of one batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.ids import without_zero_fractions
from training.data import columns
from training.data.columns import Bools
from training.data.interactions import NO_TIME, Int32s, Int64s, Interactions
from training.data.origin import Origin
from training.data.times import SECONDS, Ticks, in_seconds

log = logging.getLogger(__name__)
MARK = "\ufeff"  # a byte order mark
EMPTY_IDS = pa.array([], pa.dictionary(pa.int32(), pa.string()))
NOBODY = pa.array([], pa.string())
Part = tuple[Iterable[pa.RecordBatch], Origin]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Ratings as `Interactions` promises them, and how many rows were read for them.

    Attributes:
        rows: of the source.
        dropped: rows whose rating means "not rated".
        duplicates: rows that were dropped because a later one rates the same pair.
        erased_users, erased_ratings: users who were left out, and how many rows they had.
    """

    ratings: Interactions
    rows: int
    dropped: int
    duplicates: int
    erased_users: int = 0
    erased_ratings: int = 0


def checked(
    sources: Iterable[Iterable[Part]], drop_ratings: Sequence[float] = (), erased: pa.StringArray = NOBODY
) -> Checked:
    """The ratings of all sources under one pair of vocabularies, in order of first appearance, without duplicates.

    Of the ratings of one pair the latest by timestamp counts (the last row on ties or without timestamps); others keep
    their order. Ratings of `drop_ratings` are left out, and so are those of the users `erased`, except where they come
    from a ratings store: these were given after the user was deleted.

    A source has parts, and the times of all of them have one unit. Each batch has columns of any types: user, item,
    rating and perhaps timestamp. Raises DataError if there are no rows, or an id, rating or timestamp is missing or
    unreadable.
    """
    left_out = _LeftOut(erased)
    table, rows = _joined(sources, drop_ratings, left_out)
    users_N, user_ids = first_seen(table["user"], "user")
    items_N, item_ids = first_seen(table["item"], "item")
    ratings = Interactions(
        users_N=users_N,
        items_N=items_N,
        ratings_N=table["rating"].to_numpy(),
        timestamps_N=_timestamps(table["timestamp"]) if "timestamp" in table.column_names else None,
        user_ids=user_ids,
        item_ids=item_ids,
    )
    kept = _without_duplicates(ratings)
    return Checked(
        ratings=kept,
        rows=rows,
        dropped=rows - left_out.ratings - len(ratings),
        duplicates=len(ratings) - len(kept),
        erased_users=len(left_out.users),
        erased_ratings=left_out.ratings,
    )


class _LeftOut:
    """Leaves users out of tables, and counts them and their ratings."""

    def __init__(self, unwanted: pa.StringArray) -> None:
        self._unwanted = unwanted
        self.users: set[str] = set()
        self.ratings = 0

    def of(self, table: pa.Table) -> pa.Table:
        """The table without them."""
        if not len(self._unwanted):
            return table
        ids = [without_zero_fractions(chunk.dictionary).take(chunk.indices) for chunk in table["user"].chunks]
        users = pa.chunked_array(ids, pa.string())
        unwanted = pc.is_in(users, value_set=self._unwanted)
        self.users.update(users.filter(unwanted).unique().to_pylist())
        self.ratings += pc.sum(unwanted).as_py() or 0
        return table.filter(pc.invert(unwanted))


def _joined(
    sources: Iterable[Iterable[Part]], drop_ratings: Sequence[float], left_out: _LeftOut
) -> tuple[pa.Table, int]:
    """The checked rows of all sources but those to leave out, and how many rows there were."""
    tables, rows, origin = [], 0, Origin("the data")
    first: Origin | None = None
    for parts in sources:
        read: list[tuple[pa.Table, list[Ticks], bool]] = []
        for batches, origin in parts:
            if origin.places is not None:
                first = first or origin
                _check_alike(first, origin)
            read.append((*_checked_part(batches, origin), origin.is_store))
            del batches  # memory: they are as large as all that is made of them
        seconds = iter(in_seconds([each for _, ticks, _ in read for each in ticks]))
        for table, ticks, is_store in read:
            rows += table.num_rows
            timed = table.append_column("timestamp", list(islice(seconds, len(ticks)))) if ticks else table
            tables.append(_without_ratings(timed if is_store else left_out.of(timed), drop_ratings))
        del read
    if not rows:
        raise origin.error("no ratings")
    table = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    if not len(table):
        raise origin.error(f"no ratings are left: all {rows:,} are among those to leave out")
    return table, rows


def _check_alike(first: Origin, other: Origin) -> None:
    """Raise DataError for parts of which one has no names, and another has its columns in other places."""
    if first.has_names != other.has_names and first.places != other.places:
        without, named = (first, other) if other.has_names else (other, first)
        raise without.error(
            f"its first line does not name the columns, and that of {named.name} has them in other places: "
            "write the same names into each file"
        )


def _checked_part(batches: Iterable[pa.RecordBatch], origin: Origin) -> tuple[pa.Table, list[Ticks]]:
    """The checked rows without their times, and the times."""
    rows: list[pa.RecordBatch] = []
    ticks: list[Ticks] = []
    offset = 0
    for batch in batches:
        if batch.num_rows:
            checked = checked_rows(batch, origin, offset)
            if "timestamp" in checked.schema.names:
                ticks.append(Ticks(checked.column("timestamp"), origin, offset))
                checked = checked.drop_columns(["timestamp"])
            rows.append(checked)
            offset += batch.num_rows
    empty = pa.schema({"user": EMPTY_IDS.type, "item": EMPTY_IDS.type, "rating": pa.float32()})
    return pa.Table.from_batches(rows, rows[0].schema if rows else empty), ticks


def _without_ratings(table: pa.Table, unwanted: Sequence[float]) -> pa.Table:
    if not unwanted:
        return table
    return table.filter(pc.invert(pc.is_in(table["rating"], value_set=pa.array(unwanted, pa.float32()))))


def checked_rows(batch: pa.RecordBatch, origin: Origin, offset: int) -> pa.RecordBatch:
    """The batch with dictionary-encoded ids, float32 ratings and times (`Ticks`); only times may be null."""
    result: dict[str, pa.Array] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        try:
            result[name], bad_C = CONVERSIONS[name](column)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise origin.error(f"column {name}: {error}") from error
        if bad_C.any():
            row = int(bad_C.argmax())
            raise origin.error(_fault(name, column[row].as_py()), offset + row)
    return pa.RecordBatch.from_pydict(result)


def _checked_ids(column: pa.Array) -> tuple[pa.Array, Bools]:
    ids_C = columns.ids(column)
    bad_C: Bools = ids_C.is_null().to_numpy(zero_copy_only=False)
    marked = pc.starts_with(ids_C.dictionary, MARK)
    if pc.any(marked).as_py():
        bad_C = bad_C | marked.take(ids_C.indices).fill_null(True).to_numpy(zero_copy_only=False)
    return ids_C, bad_C


def _checked_ratings(column: pa.Array) -> tuple[pa.Array, Bools]:
    numbers_C, bad_C = columns.numbers(column)
    return pa.array(np.where(bad_C, 0, numbers_C), pa.float32()), bad_C


def _checked_ticks(column: pa.Array) -> tuple[pa.Array, Bools]:
    ticks_C, bad_C, are_seconds = columns.ticks(column)
    missing_C = columns.missing(column)
    ticks = pa.array(ticks_C, mask=missing_C)
    return ticks.cast(SECONDS) if are_seconds else ticks, bad_C & ~missing_C


CONVERSIONS = {"user": _checked_ids, "item": _checked_ids, "rating": _checked_ratings, "timestamp": _checked_ticks}
TIME_FAULT = "is neither a number nor an ISO 8601 time; --columns timestamp= reads no times"


def _fault(name: str, value: object) -> str:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return f"{name} is missing"
    if name == "timestamp":
        return f"{name} {value!r} {TIME_FAULT}"
    if name != "rating":
        return f"{name} {value!r} begins with a byte order mark (U+FEFF), as where files were joined: delete it"
    with suppress(TypeError, ValueError):
        if float(np.finfo(np.float32).max) < abs(float(value)) < np.inf:  # type: ignore[arg-type]
            return f"{name} {value!r} is too large"
    commas = isinstance(value, str) and "," in value
    return f"{name} {value!r} is not a finite number" + (
        " (write a point in place of a decimal comma)" if commas else ""
    )


def _timestamps(column: pa.ChunkedArray) -> Int64s | None:
    """The timestamps of all rows, `NO_TIME` for a row without one; None if no row has one."""
    if column.null_count == len(column):
        return None
    timestamps_N: Int64s = (column.fill_null(NO_TIME) if column.null_count else column).to_numpy()
    return timestamps_N


def first_seen(column: pa.ChunkedArray, name: str) -> tuple[Int32s, pa.StringArray]:
    """Codes and distinct ids, in order of first appearance, of a column whose chunks share one dictionary."""
    codes_N = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    texts = column.chunk(0).dictionary
    ids = without_zero_fractions(texts)
    if ids is not texts:
        _say_shortened(name, texts, ids)
    distinct = ids.dictionary_encode()
    return _renumbered(distinct.indices.to_numpy()[codes_N], distinct.dictionary)


def _say_shortened(name: str, texts: pa.StringArray, ids: pa.StringArray) -> None:
    """Warn of ids that lose a fraction of zero: two ids may become one, or they may not be numbers."""
    changed = pc.not_equal(texts, ids)
    count = pc.sum(changed).as_py()
    if count:
        first = pc.index(changed, True).as_py()
        both = pc.sum(pc.is_in(ids.filter(changed), value_set=texts)).as_py()
        twice = f"; {both:,} of them are also written without it, and are the same {name}" if both else ""
        log.warning("%d %s ids are read without .0: %s is %s%s", count, name, texts[first], ids[first], twice)


def _renumbered(codes_N: Int32s, ids: pa.StringArray) -> tuple[Int32s, pa.StringArray]:
    """The same codes under a vocabulary of the ids which occur, in order of first appearance."""
    rows = len(codes_N)
    first_row = np.full(len(ids), rows)
    first_row[codes_N[::-1]] = np.arange(rows - 1, -1, -1)
    order = np.argsort(first_row)[: np.count_nonzero(first_row < rows)]
    number = np.empty(len(ids), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    return number[codes_N], ids.take(pa.array(order))


def _without_duplicates(ratings: Interactions) -> Interactions:
    kept = without_repeats(ratings.pairs_N(), ratings.timestamps_N)
    if len(kept) == len(ratings):
        return ratings
    survivors = ratings.take(kept)
    users_N, user_ids = _renumbered(survivors.users_N, survivors.user_ids)
    items_N, item_ids = _renumbered(survivors.items_N, survivors.item_ids)
    return replace(survivors, users_N=users_N, items_N=items_N, user_ids=user_ids, item_ids=item_ids)


def without_repeats(pairs_N: Int64s, timestamps_N: Int64s | None) -> Int64s:
    """Rows, ascending, without those that a later rating of the same pair replaces."""
    sorted_N = np.sort(pairs_N)
    repeated = sorted_N[1:][sorted_N[1:] == sorted_N[:-1]]
    del sorted_N
    rows = np.arange(len(pairs_N))
    if not len(repeated):
        return rows
    contested = pd.DataFrame({"row": np.flatnonzero(np.isin(pairs_N, repeated))})
    contested["pair"] = pairs_N[contested["row"]]
    if timestamps_N is not None:
        contested["timestamp"] = timestamps_N[contested["row"]]
        contested = contested.sort_values("timestamp", kind="stable")
    replaced = contested["row"][contested["pair"].duplicated(keep="last")]
    return np.delete(rows, replaced.to_numpy())
