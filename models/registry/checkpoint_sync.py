"""Keeps a directory on this host up to date with a registry behind a URL, as far as versions are served.

The directory has the form of any checkpoint directory: versions appear by a rename, complete and verified. CURRENT
names the one to serve, so a service on it need not know the URL. One process of a host downloads at a time. If a
version cannot be downloaded, the reason is written beside the versions, and CURRENT stays.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from models.checkpoint.manifest import Manifest
from models.checkpoint.reader import read, read_manifest
from models.errors import CheckpointError, CheckpointNotFoundError, RatecastError, RemoteError
from models.registry import directory as local
from models.registry.directory import STAGING, current_version, staging
from models.registry.remote import RemoteRegistry
from models.registry.split import Split, read_or_none

POLL_SECONDS = 1.0  # one small read; all replicas notice a new version within this time
AWAY_SECONDS = 30.0  # at most, between two attempts to reach an unreachable registry
REFUSED_SECONDS = 5.0, 300.0  # pause before a failed download is repeated: the first, and the longest
KEPT = 2  # versions besides those being served: the current one, and the one to roll back to
REFUSED = ".refused"
_BELOW = re.compile(rf"{re.escape(STAGING)}[0-9a-f]+{os.sep}")

logger = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Why a version could not be copied: the version (None if unknown), the kind of error, the reason in one line."""

    version: str | None
    kind: str
    reason: str


class CheckpointSync:
    """Keeps `directory` up to date with `remote`, or at its version `pinned`. `source` is its URL without password."""

    def __init__(self, remote: RemoteRegistry, directory: Path, pinned: str | None = None) -> None:
        self.directory, self.source = directory, remote.name
        self.remote, self._pinned = remote, pinned
        self._failures, self._started = 0, False
        self._refused: str | None = None
        self._noted: Refusal | None = None
        self._retry_at = self._wait = 0.0

    def start(self) -> None:
        """Copy the version to serve. Raises the error if that fails and there is no earlier copy to serve."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.directory.stat().st_uid != os.getuid():  # its owner could choose what is served
            raise CheckpointNotFoundError(f"{self.directory} belongs to another user")
        self._discard_damaged()
        refusal = self.look()
        try:
            version = self._pinned or current_version(self.directory)
            read_manifest(self.directory / version)
        except CheckpointError:
            if refusal is None:
                raise
            raise RemoteError(refusal.reason) from None
        self._started, self._noted = True, None  # the next look logs a remaining error

    def follow(self, pause: Callable[[float], None] = time.sleep) -> NoReturn:
        """Keep the directory up to date, for ever. No error ends this."""
        while True:
            pause(min(POLL_SECONDS * 2**self._failures, AWAY_SECONDS))
            self.look()

    def look(self) -> Refusal | None:
        """Bring the directory up to date. Returns the reason if that failed."""
        version = None
        try:
            version = self._pinned or self.remote.current()
            self._failures = 0
            if self._is_put_off(version):
                return self.refusal()
            self.provide(version)
            self._make_current(version)
            split = None if self._pinned else self.remote.split()
            if split is not None:
                version = split.version
                if self._is_put_off(version):
                    return self.refusal()
                self.provide(version)
            if split != read_or_none(self.directory):
                local.set_split(self.directory, split)
        except RemoteError as error:
            self._failures += 1
            return self._refuse(version, error)
        except Exception as error:  # whatever it is, the service still has the local versions
            self._put_off(version)
            return self._refuse(version, error)
        self._refused = self._noted = None
        (self.directory / REFUSED).unlink(missing_ok=True)
        return None

    def refusal(self) -> Refusal | None:
        """The failure of the last look of any process of this host; None if it succeeded."""
        with suppress(OSError, ValueError, TypeError):
            return Refusal(**json.loads((self.directory / REFUSED).read_bytes()))
        return None

    def provide(self, version: str) -> None:
        """Download a version into the directory and verify it, unless it is there.

        Raises a CheckpointError, with nothing changed.
        """
        if (self.directory / version).is_dir():
            return
        with staging(self.directory, f"cannot keep {version} in {self.directory}", "nothing was kept") as staged:
            if not (self.directory / version).is_dir():  # another process may have been faster
                self.remote.fetch(version, staged / version)
                local.verify(staged / version)
                local.put_in_place(self.directory, staged / version, version, activate=False)

    def make_current(self, version: str, *, back: bool = False) -> None:
        """Point CURRENT of the registry, and then that of the directory, at a version that is in the directory."""
        self.remote.make_current(version, back=back)
        local.make_current(self.directory, version, back=back)

    def set_split(self, split: Split | None) -> None:
        """Begin or end a split in the registry, and then in the directory, which has its version."""
        self.remote.set_split(split)
        local.set_split(self.directory, split)

    def published(self) -> list[Manifest]:
        """The manifests of all versions; if the registry is unreachable, those of the local versions."""
        try:
            return self.remote.published()
        except RemoteError:
            return local.published(self.directory)

    def _make_current(self, version: str) -> None:
        with suppress(CheckpointError):
            if current_version(self.directory) == version:
                return
        local.make_current(self.directory, version)
        local.prune(self.directory, KEPT)

    def _discard_damaged(self) -> None:
        """Delete versions that are damaged on the disk, so that they are downloaded again."""
        for version in local.versions(self.directory):
            try:
                read(self.directory / version)
            except CheckpointError as error:
                logger.warning("Deleting a damaged checkpoint: %s", error)
                with suppress(FileNotFoundError), local.only_publisher(self.directory):
                    (self.directory / version).rename(self.directory / f"{STAGING}{version}")

    def _is_put_off(self, version: str) -> bool:
        return version == self._refused and time.monotonic() < self._retry_at

    def _put_off(self, version: str | None) -> None:
        """Repeat the download of this version later, after pauses that double."""
        first, most = REFUSED_SECONDS
        self._wait = min(self._wait * 2, most) if version == self._refused else first
        self._refused, self._retry_at = version, time.monotonic() + self._wait

    def _refuse(self, version: str | None, error: Exception) -> Refusal:
        """Store the reason of a failure, for other processes. A repeated failure is logged once."""
        text = str(error) if isinstance(error, RatecastError | OSError) else f"{type(error).__name__}: {error}"
        reason = _BELOW.sub("", text.replace(f"{self.directory}{os.sep}", "").splitlines()[0])
        refusal = Refusal(version, type(error).__name__, reason)
        if refusal != self._noted and self._started:
            bug = None if isinstance(error, RatecastError | OSError | MemoryError) else error
            logger.warning("Model %s cannot be downloaded: %s", version or "(current)", refusal.reason, exc_info=bug)
        self._noted = refusal
        if refusal != self.refusal():
            with suppress(OSError):
                written = self.directory / f"{REFUSED}.{os.getpid()}"
                written.write_text(json.dumps(refusal._asdict()), "utf-8")
                written.replace(self.directory / REFUSED)
        return refusal
