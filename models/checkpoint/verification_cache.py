"""Remembers which files this process has verified, so that it can map them again without reading them.

A stamp is what the file system knows of files; it changes when one of them is written or replaced. This module does not
know what the files are for. A process can pass its stamps to processes that it starts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int, int, int], ...]

# Times of files have steps of 4 ms on ext4 and 1 s on others: a file that was written later than this could be written
# again without a change of its stamp.
SETTLED_SECONDS = 2

verified: set[Stamp] = set()  # the launcher of workers adds its own stamps


def stamp(files: Sequence[Path]) -> Stamp:
    """Path, device, inode, size and times of each file, as they are now. Raises OSError if one is missing."""
    found = ((str(file), file.lstat()) for file in files)
    return tuple(
        (name, entry.st_dev, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns) for name, entry in found
    )


def remember(stamp: Stamp) -> None:
    """Remember that files are verified whose stamp was taken before they were read. Files just written are left out."""
    if max(max(modified, changed) for *_, modified, changed in stamp) < time.time_ns() - SETTLED_SECONDS * 10**9:
        verified.add(stamp)
