"""The checks of every source: batches of named columns become interactions. It knows no file formats.

Shapes: N ratings, C rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.did_you_mean import closest, did_you_mean
from training.communicator import SINGLE_PROCESS, Communicator
from training.data import columns
from training.data.columns import Bools
from training.data.interactions import Int32s, Int64s, Interactions
from training.errors import ConfigError, DataError

ZERO_FRACTION = r"^-?\d+\.0$"
REQUIRED = ("user", "item", "rating")
NAMES = (*REQUIRED, "timestamp")


@dataclass(frozen=True, slots=True)
class Origin:
    """The file or table that rows come from, for messages; `line_of` gives the line of a row where there are lines."""

    name: str
    line_of: Callable[[int], int] | None = None

    def error(self, problem: str, row: int | None = None) -> DataError:
        """A `DataError` that names the origin, and the row if it is known."""
        if row is None:
            return DataError(f"{self.name}: {problem}")
        place = f"row {row + 1}" if self.line_of is None else f"line {self.line_of(row)}"
        return DataError(f"{self.name}: {place}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Ratings as `Interactions` promises them, and how many rows were dropped as duplicates of a pair."""

    ratings: Interactions
    duplicates: int


def check_file(path: Path) -> None:
    """Raise `DataError` unless `path` is a readable file with something in it."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a directory, not a file")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise DataError(f"{path}: the file is empty")
    except FileNotFoundError as error:
        others: list[str] = []
        with suppress(OSError):
            others = [other.name for other in path.parent.iterdir() if other.is_file()]
        raise DataError(f"{path}: no such file{did_you_mean(path.name, others)}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def chosen_columns(found: Sequence[str], renamed: Mapping[str, str] | None, origin: Origin) -> dict[str, str]:
    """The source's name for each of user, item, rating and, where there is one, timestamp.

    `renamed` is what --columns gives: our name → one of the columns `found`. Raises ConfigError for another name than
    ours, and DataError for a missing or ambiguous column.
    """
    renamed = renamed or {}
    if unknown := sorted(set(renamed) - set(NAMES)):
        hint = did_you_mean(unknown[0], NAMES)
        raise ConfigError(f"--columns: unknown name {', '.join(unknown)}; the names are {', '.join(NAMES)}{hint}")
    wanted = {name: renamed.get(name, name) for name in NAMES}
    if wanted["timestamp"] not in found and "timestamp" not in renamed:
        del wanted["timestamp"]
    if missing := [name for name in wanted.values() if name not in found]:
        there = ", ".join(found) or "none"
        raise origin.error(f"no column {', '.join(missing)}; found {there} (use {_renaming(wanted, found)})")
    if len(set(wanted.values())) < len(wanted):
        raise origin.error("--columns names one column twice")
    if twice := [name for name in wanted.values() if list(found).count(name) > 1]:
        raise origin.error(f"more than one column {', '.join(twice)}")
    return wanted


def _renaming(wanted: Mapping[str, str], found: Sequence[str]) -> str:
    """The option that renames the columns most similar to the missing ones."""
    free = [column for column in found if column not in wanted.values()]
    likely = {name: closest(column, free) for name, column in wanted.items() if column not in found}
    pairs = [f"{name}={column}" for name, column in likely.items() if column]
    return "--columns " + (",".join(pairs) or "user=NAME,item=NAME,…")


def checked(batches: Iterable[pa.RecordBatch], origin: Origin) -> Checked:
    """The ratings of all batches under one pair of vocabularies, in order of first appearance, without duplicates.

    Of the ratings of one pair the latest by timestamp stays (the last row on ties or without timestamps); the rest keep
    their order.

    Each batch has the same columns, of any types: user, item, rating and perhaps timestamp. Raises DataError if there
    are no rows, or an id, rating or timestamp is missing or unreadable.
    """
    rows: list[pa.RecordBatch] = []
    offset = 0
    for batch in batches:
        if batch.num_rows:
            rows.append(checked_rows(batch, origin, offset))
            offset += batch.num_rows
    if not rows:
        raise origin.error("no ratings")
    table = pa.Table.from_batches(rows).unify_dictionaries()
    users_N, user_ids = first_seen(table["user"])
    items_N, item_ids = first_seen(table["item"])
    ratings = Interactions(
        users_N=users_N,
        items_N=items_N,
        ratings_N=table["rating"].to_numpy(),
        timestamps_N=_timestamps(table["timestamp"], origin) if "timestamp" in table.column_names else None,
        user_ids=user_ids,
        item_ids=item_ids,
    )
    return _without_duplicates(ratings)


def checked_rows(batch: pa.RecordBatch, origin: Origin, offset: int) -> pa.RecordBatch:
    """The batch with dictionary-encoded ids, float32 ratings and int64 timestamps; only timestamps may be null."""
    result: dict[str, pa.Array] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        try:
            result[name], bad_C = CONVERSIONS[name](column)
        except (TypeError, pa.ArrowException) as error:
            raise origin.error(f"column {name}: {error}") from error
        if bad_C.any():
            row = int(bad_C.argmax())
            raise origin.error(_fault(name, column[row].as_py()), offset + row)
    return pa.RecordBatch.from_pydict(result)


def _checked_ids(column: pa.Array) -> tuple[pa.Array, Bools]:
    ids_C = columns.ids(column)
    return ids_C, ids_C.is_null().to_numpy(zero_copy_only=False)


def _checked_ratings(column: pa.Array) -> tuple[pa.Array, Bools]:
    numbers_C, bad_C = columns.numbers(column)
    return pa.array(np.where(bad_C, 0, numbers_C), pa.float32()), bad_C


def _checked_seconds(column: pa.Array) -> tuple[pa.Array, Bools]:
    seconds_C, bad_C = columns.seconds(column)
    missing_C = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    return pa.array(seconds_C, mask=missing_C), bad_C & ~missing_C


CONVERSIONS = {"user": _checked_ids, "item": _checked_ids, "rating": _checked_ratings, "timestamp": _checked_seconds}
FAULTS = {"rating": "is not a finite number", "timestamp": "is neither seconds nor an ISO 8601 time"}


def _fault(name: str, value: object) -> str:
    missing = value is None or value != value or (isinstance(value, str) and not value.strip())
    return f"{name} is missing" if missing else f"{name} {value!r} {FAULTS[name]}"


def _timestamps(column: pa.ChunkedArray, origin: Origin) -> Int64s | None:
    """The timestamps of all rows, or None where not one has any."""
    if column.null_count == len(column):
        return None
    if column.null_count:
        raise origin.error("timestamp is missing", pc.index(column.is_null(), True).as_py())
    timestamps_N: Int64s = column.to_numpy()
    return timestamps_N


def first_seen(column: pa.ChunkedArray, communicator: Communicator = SINGLE_PROCESS) -> tuple[Int32s, pa.StringArray]:
    """Codes and distinct ids, in order of first appearance, of a column whose chunks share one dictionary.

    21.0 becomes 21 where every id of all ranks is written so.
    """
    codes_N = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    ids = column.chunk(0).dictionary
    all_here = pc.all(pc.match_substring_regex(ids, ZERO_FRACTION), min_count=0).as_py()
    if communicator.smallest(bool(all_here)):  # all are whole numbers that a data frame has turned to floats
        ids = pc.utf8_slice_codeunits(ids, 0, -2)
    distinct = ids.dictionary_encode()
    return _renumbered(distinct.indices.to_numpy()[codes_N], distinct.dictionary)


def _renumbered(codes_N: Int32s, ids: pa.StringArray) -> tuple[Int32s, pa.StringArray]:
    """The same codes under a vocabulary of the ids which occur, in order of first appearance."""
    rows = len(codes_N)
    first_row = np.full(len(ids), rows)
    first_row[codes_N[::-1]] = np.arange(rows - 1, -1, -1)
    order = np.argsort(first_row)[: np.count_nonzero(first_row < rows)]
    number = np.empty(len(ids), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    return number[codes_N], ids.take(pa.array(order))


def _without_duplicates(ratings: Interactions) -> Checked:
    kept = without_repeats(ratings.pairs_N(), ratings.timestamps_N)
    if len(kept) == len(ratings):
        return Checked(ratings=ratings, duplicates=0)
    survivors = ratings.take(kept)
    users_N, user_ids = _renumbered(survivors.users_N, survivors.user_ids)
    items_N, item_ids = _renumbered(survivors.items_N, survivors.item_ids)
    survivors = replace(survivors, users_N=users_N, items_N=items_N, user_ids=user_ids, item_ids=item_ids)
    return Checked(ratings=survivors, duplicates=len(ratings) - len(kept))


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
