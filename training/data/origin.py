"""Where rows come from, for messages, and which of a source's columns are read. It knows no file formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from models.did_you_mean import closest, did_you_mean
from training.errors import ConfigError, DataError

REQUIRED = ("user", "item", "rating")
NAMES = (*REQUIRED, "timestamp")
MOST_SHOWN = 10  # columns in a message
LONGEST_SHOWN = 60  # characters of a column's name
MOST_LIKELY = 1_000  # columns among which similar names are looked for
NEARLY = 0.8  # like Timestamp, time_stamp and timestamps


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


def chosen_columns(found: Sequence[str], renamed: Mapping[str, str], origin: Origin) -> dict[str, str]:
    """The source's name for each of user, item, rating and, where there is one, timestamp.

    `renamed` is what --columns gives: our name → one of the columns `found`, or its position from 1; nothing for
    timestamps that are not wanted. Raises ConfigError for another name than ours, and DataError for a missing or
    ambiguous column.
    """
    if unknown := sorted(set(renamed) - set(NAMES)):
        hint = did_you_mean(unknown[0], NAMES)
        raise ConfigError(f"--columns: unknown name {', '.join(unknown)}; the names are {', '.join(NAMES)}{hint}")
    wanted = {name: _by_position(renamed.get(name, name), found) for name in NAMES}
    if wanted["timestamp"] not in found and not renamed.get("timestamp"):
        if "timestamp" not in renamed:
            _check_no_other_timestamp(found, origin)
        del wanted["timestamp"]
    if missing := [name for name in wanted.values() if name not in found]:
        raise origin.error(
            f"no column {shortened(missing)}; found {shortened(found) or 'none'} (use {_renaming(wanted, found)})"
        )
    if len(set(wanted.values())) < len(wanted):
        raise origin.error("--columns names one column twice")
    if twice := [name for name in wanted.values() if list(found).count(name) > 1]:
        raise origin.error(f"more than one column {', '.join(twice)}")
    return wanted


def shortened(names: Sequence[str]) -> str:
    """Some names for a message: the first ones, each without its end if it is very long."""
    shown = [name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…" for name in names[:MOST_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _by_position(column: str, found: Sequence[str]) -> str:
    if column not in found and column.isdecimal() and 1 <= int(column) <= len(found):
        return found[int(column) - 1]
    return column


def _check_no_other_timestamp(found: Sequence[str], origin: Origin) -> None:
    """Raise DataError for a column that is called nearly timestamp: it would not be read."""
    likely = get_close_matches("timestamp", [name.lower() for name in found], n=1, cutoff=NEARLY)
    if likely:
        column = next(name for name in found if name.lower() == likely[0])
        raise origin.error(
            f"the column {column} may be the timestamps: "
            f"give --columns timestamp={column}, or --columns timestamp= to leave it out"
        )


def _renaming(wanted: Mapping[str, str], found: Sequence[str]) -> str:
    """The option that renames the columns most similar to the missing ones."""
    free = [column for column in found if column not in wanted.values() and len(column) <= LONGEST_SHOWN][:MOST_LIKELY]
    likely = {name: closest(column, free) for name, column in wanted.items() if column not in found}
    pairs = [f"{name}={column}" for name, column in likely.items() if column]
    return "--columns " + (",".join(pairs) or "user=NAME,item=NAME,…")
