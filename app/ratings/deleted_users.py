"""The users who were deleted, in a file beside the models, which answers while the ratings store is unreachable.

A line of the file has the id of the store, the revision of the deletion, and two hashes of the user's id: one finds the
users of a model quickly, and the other tells those apart who were given ids of one hash. Lines are only added; all
workers, and all services on one directory, share the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.ratings.revisions import MASK
from models.checkpoint.vocabulary import hash_of

FILE = "DELETED_USERS"
MOST_BYTES = 64 << 20  # of the file that are read: about 600,000 users
LINE = re.compile(rb"([!-~]{1,64}) ([0-9]{1,18}) ([0-9a-f]{16}) ([0-9a-f]{32})")

logger = logging.getLogger(__name__)


class _Line(NamedTuple):
    """A line of the file."""

    store: str
    revision: int
    hashed: int
    digest: bytes

    @classmethod
    def of(cls, found: re.Match[bytes]) -> _Line:
        return cls(found[1].decode(), int(found[2]), int(found[3], 16), bytes.fromhex(found[4].decode()))

    def __str__(self) -> str:
        return f"{self.store} {self.revision} {self.hashed:016x} {self.digest.hex()}\n"


class DeletedUsers:
    """The deletions that this process and others have noted in a file; without a file, those of this process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._read_to = 0  # bytes of the file
        self._found: dict[bytes, dict[str, int]] = {}  # by the digest of an id: the last deletion in each store
        self._slots = np.empty(0, np.int32)  # of all of them
        self._lock = Lock()  # of what is in memory
        self._warned = False

    def add(self, store: str, deleted: Iterable[tuple[str, int]]) -> None:
        """Note the revisions at which users were deleted from a store. They are on the disk when this returns."""
        self._refresh()
        noted = [_Line(store, revision, _hash(user), _digest(user)) for user, revision in deleted]
        new = [one for one in noted if self._found.get(one.digest, {}).get(store, 0) < one.revision]
        with self._lock:
            self._note(new)
        if new and self._file is not None:
            try:
                _append(self._file, "".join(map(str, new)))
            except OSError as error:
                self._warn(error)

    def last(self, user: str, store: str | None, revision: int) -> int:
        """The revision of a user's last deletion; 0 if there is none that a model of `store` at `revision` lacks."""
        self._refresh()
        deletions = self._found.get(_digest(user), {}) if self._found else {}
        return max((at for name, at in deletions.items() if name != store or at > revision), default=0)

    def possible(self, slots_B: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Positions of those slots (`app.ratings.revisions`) that some deleted user falls into."""
        self._refresh()
        return np.flatnonzero(np.isin(slots_B, self._slots))

    def _refresh(self) -> None:
        """Read what was added to the file since the last time."""
        if self._file is None:
            return
        try:
            if self._file.stat().st_size <= self._read_to:
                return
            with self._lock:
                content = _read(self._file, self._read_to)
                end = content.rfind(b"\n") + 1
                self._read_to += end
                found = filter(None, map(LINE.fullmatch, content[:end].splitlines()))  # a full disk may break a line
                self._note([_Line.of(line) for line in found])
        except FileNotFoundError:
            pass
        except OSError as error:
            self._warn(error)

    def _note(self, deletions: list[_Line]) -> None:
        for store, revision, _, digest in deletions:
            known = self._found.get(digest, {})
            self._found[digest] = known | {store: max(known.get(store, 0), revision)}
        slots = np.fromiter((one.hashed & MASK for one in deletions), np.int32, len(deletions))
        self._slots = np.union1d(self._slots, slots)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "The file %s beside the models cannot be used (%s): if the ratings store is unreachable at a start, "
                "models answer for users who were deleted",
                FILE,
                error.strerror,
            )


def _hash(user: str) -> int:
    return hash_of(user.encode("utf-8", "surrogatepass"))


def _digest(user: str) -> bytes:
    return hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _read(file: Path, start: int) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_plain(descriptor)
        return os.pread(descriptor, max(MOST_BYTES - start, 0), start)
    finally:
        os.close(descriptor)


def _append(file: Path, lines: str) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o644)
    try:
        _check_plain(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        added = ("\n" * broken + lines).encode()
        if os.write(descriptor, added) < len(added):
            raise OSError(0, "the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_plain(descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(0, "it is not a plain file")
