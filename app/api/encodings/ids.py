"""Ids as requests spell them, as the texts that are looked up and stored."""

from __future__ import annotations

from collections.abc import Iterable

from models.ids import clean


def id_texts(ids: list[str | int]) -> list[str]:
    """Numbers as their digits, texts as `models.ids` cleans them, of blanks empty.

    Gives the list itself where nothing changes. Letters and digits are clean: to see that all ids have nothing else
    takes a quarter of the time of cleaning them.
    """
    texts: Iterable[str | int] = ids
    try:
        joined = "".join(ids)  # type: ignore[arg-type]  # raises TypeError for a number
    except TypeError:
        return [clean(str(id_)) for id_ in texts]
    return ids if joined.isalnum() else list(map(clean, ids))  # type: ignore[return-value, arg-type]


def too_many_pairs(most: int) -> str:
    """What is said of more pairs than one request may hold."""
    return f"a request holds at most {most} pairs (RATECAST_MAX_PAIRS)"
