"""The changes and records of a ratings store, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

UNKNOWN_TIME = 0  # older than all others


def known_time(timestamp: int) -> int | None:
    """The time of a stored rating, None if it is unknown."""
    return None if timestamp == UNKNOWN_TIME else timestamp


@dataclass(frozen=True, slots=True)
class Rating:
    """A user's rating of an item, with its time in seconds since 1970."""

    item: str
    rating: float
    timestamp: int


@dataclass(frozen=True, slots=True)
class StoredUser:
    """The record of a user in a ratings store."""

    revision: int = 0  # of their last change, 0 if there was none
    erased: int = 0  # the revision of their last erasure, 0 if there was none
    ratings: tuple[Rating, ...] = ()  # in the order of the items' ids
    deleted: frozenset[str] = frozenset()  # ids of items whose rating was deleted
    complete: bool = True  # whether this is all: of a user with very many ratings only the first are read


@dataclass(frozen=True, slots=True)
class Put:
    """Store a rating, replacing an earlier one."""

    user: str
    rating: Rating


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a rating, also one that is only in a model's training data."""

    user: str
    item: str


@dataclass(frozen=True, slots=True)
class Erase:
    """Delete a user: all their ratings, also those of a model's training data."""

    user: str


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The idempotency key of a request, and a fingerprint of what it asks: one of both is carried out only once."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PutMany:
    """Store many ratings in one transaction; of two for one pair the later counts."""

    users: Sequence[str]
    ratings: Sequence[Rating]
    key: RequestKey | None = None


Change: TypeAlias = Put | Delete | Erase | PutMany


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction: how many changes it had, and how long it took."""

    changes: int
    seconds: float


def storable(text: str) -> bool:
    """Whether a database can hold an id, or another text: PostgreSQL has no NUL, and UTF-8 no lone surrogate."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
