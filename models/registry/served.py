"""What a directory remembers of the versions that were served: the list that a roll-back goes back along.

`SERVED` names them, oldest first; the last is the one that CURRENT names. It is written before CURRENT: after a kill
between the two it ends with a version that was not served yet, and `before` gives the right answer all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.checkpoint.manifest import VERSION_NAME

SERVED = "SERVED"
MOST = 100  # versions that are remembered
MAX_BYTES = MOST * 130  # of the file: a name has at most 128


def parse(text: str) -> list[str]:
    """The versions that the file names. What is no name of a version is left out."""
    return [name for name in text.split() if VERSION_NAME.fullmatch(name)]


def to_text(names: Sequence[str]) -> str:
    """The content of the file: the latest `MOST` names, one a line."""
    return "".join(f"{name}\n" for name in names[-MOST:])


def before(names: Sequence[str], current: str | None) -> list[str]:
    """The versions that were served before the current one, oldest first; None where nothing is current."""
    for position in reversed(range(len(names))):
        if names[position] == current:
            return [*names[:position]]
    return [*names]


def going_on(names: Sequence[str], current: str | None, version: str) -> list[str]:
    """The list once another version is current."""
    earlier = before(names, current)
    if current not in (None, version):
        earlier.append(str(current))
    return [*earlier, version]


def going_back(names: Sequence[str], current: str | None, version: str) -> list[str]:
    """The list once a version that was served before is current again: what was served since is forgotten."""
    return [*before(before(names, current), version), version]
