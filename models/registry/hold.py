"""Keeps a version from being pruned while a service uses it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from models.checkpoint.files import MANIFEST


class Hold:
    """Keeps a version from being pruned for as long as this object lives: a shared lock on its manifest.

    Permission to read is enough. If the file system has no locks, or the version does not exist, nothing is locked.
    """

    def __init__(self, version: Path) -> None:
        self._descriptor = -1
        with suppress(OSError):
            self._descriptor = os.open(version / MANIFEST, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
