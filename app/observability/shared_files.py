"""The files in which workers share their metrics, each with room reserved on the disk.

prometheus_client makes them longer without room: when the disk is full, the next number that is written ends the
process (SIGBUS). A worker that gets no room goes on counting in memory, which the others do not see.
"""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from app.options import METRICS_FOLDER
from app.ratings.revisions import reserve

SIZE = 1 << 16  # bytes of a new file, as prometheus_client's
ENTRY = 4_096  # bytes, more than the name of a series has

logger = logging.getLogger(__name__)


class ReservedDict(MmapedDict):
    """prometheus_client's numbers in a mapped file, which is never longer than what the disk has room for."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            try:
                with Path(filename).open("a+b") as file:
                    reserve(file.fileno(), SIZE)
            except OSError as error:
                Path(filename).unlink(missing_ok=True)  # nobody could read an empty one
                filename = f"/proc/self/fd/{_in_memory(error)}"
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + ENTRY > self._capacity:
            try:
                reserve(self._f.fileno(), 2 * self._capacity)
            except OSError as error:
                self._move(_in_memory(error))
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _move(self, descriptor: int) -> None:
        """Go on in another file. The old one keeps the numbers as they are."""
        numbers = self._m[: self._used]
        self._f.close()
        self._f = os.fdopen(descriptor, "r+b")
        self._f.truncate(self._capacity)
        self._m = mmap.mmap(descriptor, self._capacity)
        self._m[: self._used] = numbers


def install() -> None:
    """Let metrics that are made from now on reserve their room."""
    vars(values)["MmapedDict"] = ReservedDict


def share(folder: Path) -> None:
    """Let metrics that are made from now on add up in a folder, with those of other processes."""
    os.environ[METRICS_FOLDER] = str(folder)
    vars(values)["ValueClass"] = values.get_value_class()  # type: ignore[no-untyped-call]


def _in_memory(error: OSError) -> int:
    logger.warning("There is no room for metrics in the folder of temporary files (%s): some are lost", error.strerror)
    return os.memfd_create("metrics")
