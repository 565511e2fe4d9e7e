"""A setting as the service uses it: what the settings tell the API of themselves."""

from __future__ import annotations

from typing import NamedTuple


class Effective(NamedTuple):
    """A setting.

    Attributes:
        name: the variable that sets it.
        value: what the service uses, without secrets; None for nothing.
        given: whether the variable was set.
        meaning: what it is for.
    """

    name: str
    value: str | None
    given: bool
    meaning: str
