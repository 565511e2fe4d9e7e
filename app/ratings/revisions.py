"""Whose ratings have changed, in a table in memory that all workers of a service share.

A slot holds the revision of the last change of any user whose id falls into it. A change is marked after it has been
committed and before it is acknowledged, so an answer that is computed after that finds a revision that is new to it.
Users who share a slot count as changed together, which costs a read of the database and nothing else.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.checkpoint.vocabulary import Vocabulary, hash_of, hashes_of

SLOTS = 1 << 20  # 8 MB; 10,000 changed users share a slot with 1 % of all
MASK = SLOTS - 1
LATEST = SLOTS  # after the slots: the revision of the last change of all
SIZE = 8 * (SLOTS + 1)
MANY = 200  # users, from where numpy takes less time
FILE = "changes"  # in the folder that the workers share


class Revisions:
    """Changes by slot, and the latest of all. `file` is shared by the workers of a service; None for a single worker.

    Attributes:
        table: the revision of the last change in each slot, 0 if there was none, and at `LATEST` that of all.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file: BinaryIO | None = None
        if file is not None:
            self._file = open(file, "a+b", opener=partial(os.open, mode=0o600))  # noqa: SIM115 - closed with it
            reserve(self._file.fileno(), SIZE)
        memory = mmap.mmap(-1 if self._file is None else self._file.fileno(), SIZE)
        self.table = memoryview(memory).cast("q")  # of which one number is read in a tenth of numpy's time

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def slot_of(self, user: str) -> int:
        return hash_of(user.encode("utf-8", "surrogatepass")) & MASK

    def slots_of(self, users: Vocabulary) -> npt.NDArray[np.int32]:
        """The slot of each row of a vocabulary."""
        return (users.hashes() & np.uint64(MASK)).astype(np.int32)

    def changed_after(self, revision: int, slots_B: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Positions of the slots that were changed after a revision."""
        return np.flatnonzero(np.frombuffer(self.table, np.int64)[slots_B] > revision)

    def mark(self, changed: Collection[tuple[str, int]]) -> None:
        """Write the revisions of some users' last changes. The lock ensures that a slot's revision never falls."""
        if len(changed) > MANY:
            self._mark_many(*zip(*changed, strict=True))
            return
        with self._locked():
            for user, revision in changed:
                for slot in (self.slot_of(user), LATEST):
                    self.table[slot] = max(self.table[slot], revision)

    def _mark_many(self, users: Sequence[str], revisions: Sequence[int]) -> None:
        """The same with operations of numpy. Ids that are stored have no lone surrogate."""
        slots_B = (hashes_of(pa.array(users, pa.large_string())) & np.uint64(MASK)).astype(np.int64)
        with self._locked():
            table = np.frombuffer(self.table, np.int64)
            np.maximum.at(table, slots_B, np.array(revisions))
            table[LATEST] = max(table[LATEST], *revisions)

    def touch(self, revision: int) -> None:
        """Note that anybody who was ever changed may have been changed again, at latest at this revision."""
        table = np.frombuffer(self.table, np.int64)
        with self._locked():
            table[(table > 0) & (table < revision)] = revision
            table[LATEST] = max(table[LATEST], revision)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else writes meanwhile."""
        if self._file is None:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def reserve(descriptor: int, size: int) -> None:
    """Give a file so many bytes, with room on the disk. Raises OSError where there is none.

    A mapped file without it ends the process that writes to it when the disk is full (SIGBUS).
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
