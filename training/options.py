"""The options that say how to read a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to read a source. Options that are not given are recognised from the source.

    Attributes:
        table, query: the table of a database, perhaps SCHEMA.TABLE, or the SELECT that gives the ratings.
        columns: our name → the source's, or the position from 1; an empty text for a timestamp that is not to be read.
        separator: what stands between two fields of a text; a blank for runs of blanks.
        header: False if the first line of a text is a rating; True recognises whether it is.
        quotes: False if quotes mean nothing in a text.
        encoding: of a text, as Python names it.
        decimal: the decimal sign of a text, "." or ",".
        drop_ratings: ratings that mean "not rated"; their rows are dropped.
        scale: the lowest and the highest rating; None for those that occur.
    """

    table: str | None = None
    query: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    header: bool = True
    quotes: bool = True
    encoding: str | None = None
    decimal: str = "."
    drop_ratings: tuple[float, ...] = ()
    scale: tuple[float, float] | None = None


NOTHING_KNOWN = SourceOptions()
