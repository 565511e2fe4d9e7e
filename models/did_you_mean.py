"""Suggests the right word for a misspelt one, for the end of a message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONG_NAME = 40  # characters of a name that are repeated; looking for similar words takes long for long ones


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar to this one; None if none is similar."""
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'bayes'?` if a known word is similar to this one, else an empty text."""
    found = closest(word, known)
    return "" if found is None else f": did you mean {found!r}?"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """What is said of a name in a request that is not known, or that does not go with the others of its object."""
    there = sorted(known)
    if name in there:
        return f"{kind} {name!r} does not go with the others that are given"
    start = name[:LONG_NAME]
    hint = did_you_mean(start, there) or (f"; known are {', '.join(there)}" if there else "; none is taken here")
    return f"unknown {kind} {start if start == name else start + '…'!r}{hint}"
