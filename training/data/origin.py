"""Names the origin of rows in messages, and selects the columns of a source to read. It knows no file formats."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from models.did_you_mean import closest, did_you_mean
from training.errors import ConfigError, DataError

log = logging.getLogger(__name__)
RATING = ("user", "item", "rating")
TIMESTAMP = "timestamp"
NAMES = (*RATING, TIMESTAMP)
MOST_SHOWN = 10  # columns in a message
LONGEST_SHOWN = 60  # characters of a column's name
MOST_LIKELY = 1_000  # columns among which similar names are looked for
NEARLY = 0.8  # like Timestamp, time_stamp and timestamps


@dataclass(frozen=True, slots=True)
class Origin:
    """The file or table that rows come from, for messages; `line_of` gives the line of a row if there are lines.

    `is_store` says that it is of a ratings store, which has no ratings of users before their deletion. `places` are
    those of the columns of a text, counted from 0, and `has_names` says whether its first line names them.
    """

    name: str
    line_of: Callable[[int], int] | None = None
    is_store: bool = False
    places: Mapping[str, int] | None = None
    has_names: bool = False

    def error(self, problem: str, row: int | None = None) -> DataError:
        """A `DataError` that names the origin, and the row if it is known."""
        if row is None:
            return DataError(f"{self.name}: {problem}")
        place = f"row {row + 1}" if self.line_of is None else f"line {self.line_of(row)}"
        return DataError(f"{self.name}: {place}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which columns of a source are read: by our names, or by those of `renamed` (our name → the source's).

    Attributes:
        renamed: what an option gives: a name, a position from 1, or an empty text for a column to ignore.
        option: the option, for messages; empty if there is none.
        required: names that must be there.
        optional: names that are read if they are there.
        others: whether all other columns are read too, under the source's names.
        synonyms: other names that a column may have where it has not ours.
    """

    renamed: Mapping[str, str]
    option: str = "--columns"
    required: Sequence[str] = RATING
    optional: Sequence[str] = (TIMESTAMP,)
    others: bool = False
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def places_ratings(self) -> bool:
        """Whether it is said where a user, an item or a rating stands."""
        return any(name in self.renamed for name in RATING)

    def by_position(self, found: Sequence[str]) -> bool:
        """Whether all columns that must be there are given by their positions."""
        return all(_is_position(self.renamed.get(name, ""), found) for name in self.required)

    def is_header(self, fields: Sequence[str]) -> bool:
        """Whether the first line of a text names all columns that must be there. Positions alone name none."""
        found = [each.strip() for each in fields]
        if self.by_position(found):
            return False
        return all(self._theirs(name, found) in found for name in self.required)

    def of(self, found: Sequence[str], origin: Origin) -> dict[str, str]:
        """Our name → the source's, of the columns to read.

        Raises ConfigError for another name than ours, and DataError for a missing or ambiguous column.
        """
        known = (*self.required, *self.optional)
        if unknown := sorted(set(self.renamed) - set(known)):
            hint = did_you_mean(unknown[0], known)
            raise ConfigError(f"{self.option}: unknown name {unknown[0]}; the names are {', '.join(known)}{hint}")
        wanted = {name: self._theirs(name, found) for name in known}
        for name in self.optional:
            if wanted[name] not in found and not self.renamed.get(name):
                if name not in self.renamed:
                    self._check_no_similar(name, found, origin)
                del wanted[name]
        if missing := [name for name in wanted.values() if name not in found]:
            there, use = shortened(found) or "none", self._renaming(wanted, found)
            raise origin.error(f"no column {shortened(missing)}; found {there} (use {use})")
        if len(set(wanted.values())) < len(wanted):
            raise origin.error(f"{self.option} names one column twice")
        if self.others:
            wanted |= {name: name for name in found if name and name not in wanted.values() and name not in wanted}
        if twice := [name for name in wanted.values() if list(found).count(name) > 1]:
            raise origin.error(f"more than one column {shortened(twice)}")
        _tell_of_unread(found, wanted, self.optional, origin)
        return wanted

    def _theirs(self, name: str, found: Sequence[str]) -> str:
        """What a column is called in the source, whether it is there or not."""
        if name in self.renamed:
            return _by_position(self.renamed[name], found)
        return next((each for each in (name, *self.synonyms.get(name, ())) if each in found), name)

    def _check_no_similar(self, name: str, found: Sequence[str], origin: Origin) -> None:
        """Raise DataError for a column that is called nearly like one of ours: it would not be read."""
        by_lower = {column.lower(): column for column in found}
        for likely in get_close_matches(name, by_lower, n=1, cutoff=NEARLY):
            column = by_lower[likely]
            raise origin.error(
                f"the column {column} may be the {name}: "
                f"give {self.option} {name}={column}, or {self.option} {name}= if it is not"
            )

    def _renaming(self, wanted: Mapping[str, str], found: Sequence[str]) -> str:
        """The option that renames the columns most similar to the missing ones."""
        free = [each for each in found if each not in wanted.values() and len(each) <= LONGEST_SHOWN][:MOST_LIKELY]
        likely = {name: closest(column, free) for name, column in wanted.items() if column not in found}
        pairs = [f"{name}={column}" for name, column in likely.items() if column]
        if not self.option:
            return " and ".join(f"the name {name} for {column or 'one of them'}" for name, column in likely.items())
        if pairs:
            return f"{self.option} " + ",".join(pairs)
        named, placed = (
            ",".join(f"{name}={column}" for name, column in zip(self.required, columns, strict=True))
            for columns in (["NAME"] * len(self.required), range(1, 1 + len(self.required)))
        )
        return f"{self.option} {named}, or {placed} by position where no line names the columns"


def _tell_of_unread(found: Sequence[str], wanted: Mapping[str, str], optional: Sequence[str], origin: Origin) -> None:
    """Log which columns are left out, and how to read the times of ratings that have another name."""
    read = set(wanted.values())
    if unread := [name for name in found if name and name not in read]:
        times = f"; --columns {TIMESTAMP}=NAME reads times" if TIMESTAMP in optional and TIMESTAMP not in wanted else ""
        log.info("%s: columns that are not read: %s%s", origin.name, shortened(unread), times)


def shortened(names: Sequence[str]) -> str:
    """Some names for a message: the first ones, each without its end if it is very long."""
    shown = [name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…" for name in names[:MOST_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _by_position(column: str, found: Sequence[str]) -> str:
    return found[int(column) - 1] if column not in found and _is_position(column, found) else column


def _is_position(column: str, found: Sequence[str]) -> bool:
    return column.isdecimal() and 1 <= int(column) <= len(found)
