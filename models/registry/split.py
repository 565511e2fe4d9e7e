"""A split: a version that answers a share of the users beside the current one. The file `SPLIT` names both.

Who is in it follows from the version and the user's id alone, so every worker and replica decides alike, also after a
restart. A larger share of the same version keeps those who were in it; another version gets others.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from models.checkpoint.files import read_small
from models.checkpoint.manifest import VERSION_NAME
from models.errors import CheckpointCorruptError

SPLIT = "SPLIT"
MAX_BYTES = 256  # of the file: a name has at most 128
HASHES = 1 << 64


class Split(NamedTuple):
    """The version, and its share of the users, between 0 and 1."""

    version: str
    share: float

    def has(self, user: str) -> bool:
        """Whether a user is answered by the version."""
        text = f"{self.version}\0{user}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") < self.share * HASHES


def parse(text: str, name: str) -> Split:
    """The split of a file's content. Raises CheckpointCorruptError that names the file."""
    version, _, share = text.strip().partition(" ")
    try:
        found = Split(version, float(share))
    except ValueError:
        found = Split(version, 0.0)
    if not VERSION_NAME.fullmatch(version) or not 0 < found.share < 1:
        raise CheckpointCorruptError(f"{name} does not contain the name of a version and a share between 0 and 1")
    return found


def to_text(split: Split) -> str:
    """The content of the file."""
    return f"{split.version} {split.share!r}\n"


def is_of(split: Split | None, version: str | None) -> bool:
    """Whether a version is that of a split."""
    return split is not None and split.version == version


def read_or_none(directory: Path) -> Split | None:
    """As `read`; None also where the file cannot be read."""
    with suppress(CheckpointCorruptError, OSError):
        return read(directory)
    return None


def read(directory: Path) -> Split | None:
    """The split that a directory names; None if there is none. Raises CheckpointCorruptError or OSError."""
    file = directory / SPLIT
    try:
        return parse(read_small(file, MAX_BYTES).decode("utf-8", "replace"), str(file))
    except FileNotFoundError:
        return None
