"""Which files this process has verified, so that it does not read all of them again to map them once more.

A stamp is what the file system says of files; it changes when one of them is written or replaced. It says nothing of
what the files are for. Processes can be told of stamps by the one that started them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

Stamp = tuple[tuple[str, int, int, int, int, int], ...]

# Times of files are as coarse as 4 ms on ext4 and 1 s on others: what was written later than this could be written
# again without its stamp showing it.
SETTLED_SECONDS = 2

verified: set[Stamp] = set()  # may be added to by what another process says that started this one


def stamp(files: Sequence[Path]) -> Stamp:
    """Path, device, inode, size and times of each file, as they are now. Raises an OSError if one is not there."""
    found = ((str(file), file.lstat()) for file in files)
    return tuple(
        (name, entry.st_dev, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns) for name, entry in found
    )


def remember(stamp: Stamp) -> None:
    """Files of this stamp, taken before they were read, have been verified; does nothing for those just written."""
    if max(max(modified, changed) for *_, modified, changed in stamp) < time.time_ns() - SETTLED_SECONDS * 10**9:
        verified.add(stamp)
