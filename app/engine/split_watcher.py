"""Keeps the version of a split loaded beside the current one, as the file `SPLIT` of the checkpoint directory says,
or the settings, which win.

Every worker and replica on the directory follows. A version that cannot be loaded answers nobody: the current one does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import NoReturn

from app.engine.errors import SplitError, UnknownVersionError
from app.engine.events import Listener, SplitChanged
from app.engine.model_holder import Beside, ModelHolder
from app.engine.model_watcher import LOOK_SECONDS, RETRY_SECONDS, ModelWatcher
from models.checkpoint.reader import read_manifest
from models.errors import CheckpointNotFoundError
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import current_split, set_split, version_path
from models.registry.registry import check_proven
from models.registry.split import Split, is_of, to_text

logger = logging.getLogger(__name__)


class SplitWatcher:
    """Begins, follows and ends splits. `Engine` describes the arguments."""

    def __init__(
        self,
        models: ModelHolder,
        versions: ModelWatcher,
        directory: Path,
        sync: CheckpointSync | None,
        tell: Listener,
        fixed: Split | None,
    ) -> None:
        self._fixed = fixed
        self._models, self._versions, self._directory, self._sync, self._tell = models, versions, directory, sync, tell
        self._failed: tuple[Split | None, str] | None = None  # what could not be loaded, and why
        self._retry_at = 0.0

    @property
    def current(self) -> Split | None:
        """The split that this worker serves; None if there is none."""
        beside = self._models.beside
        return None if beside is None else beside.split

    async def start(self) -> None:
        """Load the version of the split, if there is one. No error keeps the service from starting."""
        await self._look()

    async def follow(self) -> NoReturn:
        """Follow the split for ever. No error ends this."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            async with self._versions.lock:
                await self._look()

    async def begin(self, split: Split, *, force: bool) -> None:
        """Let a version answer its share of the users. It answers once this worker has loaded it; others follow.

        Raises UnknownVersionError, UnprovenVersionError, SplitError, RemoteError or ActivationError; nothing is changed
        then.
        """
        self._refuse_fixed()
        async with self._versions.changing():
            if split.version == self._models.current.version:
                raise SplitError(f"version {split.version} is the current one: a split needs another one beside it")
            try:
                beside = await self._versions.run(self._begin, split, force)
            except CheckpointNotFoundError:
                raise UnknownVersionError(f"there is no version {split.version!r}") from None
            self._put(beside)

    async def end(self, version: str | None, *, force: bool) -> None:
        """End the split, if there is one, for a version of it: by default the current one. It answers all users then.

        Raises SplitError for a version that is neither, and as `ModelWatcher.activate`.
        """
        self._refuse_fixed()
        async with self._versions.changing():
            if version is None or version == self._models.current.version:
                await self._versions.run(self._end)  # whatever the file says
            elif is_of(await self._versions.run(current_split, self._directory), version):
                await self._versions.make_current(version, force=force)
            else:
                raise SplitError(f"version {version!r} is neither the current one nor that of the split")
            self._put(None)

    async def _look(self) -> None:
        wanted: Split | None = None
        try:
            wanted = await self._versions.run(self._wanted)
            if wanted == self.current:
                self._failed = None
            elif wanted is None:
                self._put(None)
            elif self._failed is None or self._failed[0] != wanted or time.monotonic() >= self._retry_at:
                if not is_of(self.current, wanted.version):
                    self._put(None)
                self._put(await self._versions.run(self._load, wanted))
        except Exception as error:  # whatever it is, the current model still answers
            self._fail(wanted, error)

    def _wanted(self) -> Split | None:
        if self._fixed is not None:
            return None if is_of(self._fixed, self._models.current.version) else self._fixed
        return None if self._versions.is_pinned else current_split(self._directory)

    def _refuse_fixed(self) -> None:
        if self._fixed is not None:
            raise SplitError(f"the settings of the service name the split: {to_text(self._fixed).strip()}")

    def _begin(self, split: Split, force: bool) -> Beside:
        if self._sync is not None:
            self._sync.provide(split.version)
        check_proven(read_manifest(version_path(self._directory, split.version)), force=force)
        beside = self._load(split)
        if self._sync is None:
            set_split(self._directory, split)
        else:
            self._sync.set_split(split)
        return beside

    def _end(self) -> None:
        if self._sync is None:
            set_split(self._directory, None)
        else:
            self._sync.set_split(None)

    def _load(self, split: Split) -> Beside:
        if self._sync is not None and split == self._fixed:
            self._sync.provide(split.version)
        return Beside(self._versions.prepare(split.version), split)

    def _put(self, beside: Beside | None) -> None:
        self._failed = None
        if beside == self._models.beside:
            return
        self._models.beside = beside
        if beside is None:
            logger.info("The split has ended: the current model answers all users")
        else:
            logger.info("Model %s answers %.4g %% of the users", beside.split.version, 100 * beside.split.share)
        self._tell(SplitChanged(None if beside is None else beside.split))

    def _fail(self, split: Split | None, error: Exception) -> None:
        """Note that this worker could not follow a split. It will try again later; what repeats is logged once."""
        before = self._failed
        self._put(None)
        self._retry_at = time.monotonic() + RETRY_SECONDS
        reason = self._versions.reason(error)
        if before != (split, reason):
            logger.warning("The split cannot be followed, so the current model answers all users: %s", reason)
        self._failed = split, reason
