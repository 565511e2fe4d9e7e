"""What goes into a ratings store and what comes out of it: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

UNKNOWN_TIME = 0  # older than all others


@dataclass(frozen=True, slots=True)
class Rating:
    """What a user gave an item, and when, in seconds since 1970."""

    item: str
    rating: float
    timestamp: int


@dataclass(frozen=True, slots=True)
class StoredUser:
    """What a ratings store knows of a user."""

    revision: int = 0  # of their last change, 0 where nothing is known
    erased: int = 0  # the revision of their last erasure, 0 where there was none
    ratings: tuple[Rating, ...] = ()  # in the order of the items' ids
    deleted: frozenset[str] = frozenset()  # ids of items whose rating was deleted


@dataclass(frozen=True, slots=True)
class Put:
    """Store a rating, in place of the one before it."""

    user: str
    rating: Rating


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a rating, be it stored or only in a model's training data."""

    user: str
    item: str


@dataclass(frozen=True, slots=True)
class Erase:
    """Delete all that is known of a user."""

    user: str


@dataclass(frozen=True, slots=True)
class PutMany:
    """Store many ratings, as many as users, in one transaction; of two for one pair the later stays.

    With the same key and the same fingerprint of the request it is done once; without a key always.
    """

    users: Sequence[str]
    ratings: Sequence[Rating]
    key: str | None = None
    fingerprint: str = ""


Change: TypeAlias = Put | Delete | Erase | PutMany


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction: how many changes it made, and how long it took."""

    changes: int
    seconds: float


def storable(id_: str) -> bool:
    """Whether a database can hold an id: PostgreSQL has no NUL, and UTF-8 no lone surrogate."""
    try:
        return b"\0" not in id_.encode()
    except UnicodeEncodeError:
        return False
