"""What somebody may have meant by a word that is not known: for the end of a message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like this one, None where none is."""
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'bayes'?` where a known word is like this one, else nothing."""
    found = closest(word, known)
    return "" if found is None else f": did you mean {found!r}?"
