"""Suggests the right word for a misspelt one, for the end of a message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar to this one; None if none is similar."""
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'bayes'?` if a known word is similar to this one, else an empty text."""
    found = closest(word, known)
    return "" if found is None else f": did you mean {found!r}?"
