"""The published versions of the model: which there are, which one is current, and what was reported of each."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.engine.errors import UnknownVersionError
from app.engine.model_watcher import Failure, ModelWatcher
from app.engine.serving_model import ModelHolder
from models.checkpoint.manifest import Manifest
from models.errors import CheckpointNotFoundError
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import published, read_report
from models.sharding import DevicePlacement


class Versions:
    """What is known about the versions in a directory."""

    def __init__(
        self, directory: Path, sync: CheckpointSync | None, models: ModelHolder, watcher: ModelWatcher
    ) -> None:
        self._directory = directory
        self._sync = sync
        self._models = models
        self._watcher = watcher

    @property
    def manifest(self) -> Manifest:
        """Facts about the current model. Raises NotReadyError before there is one."""
        return self._models.current.checkpoint.manifest

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating of the current model. Raises NotReadyError before there is one."""
        return self._models.current.scorer.scale

    @property
    def placement(self) -> DevicePlacement:
        """The devices that the current model is on."""
        return self._models.placement

    @property
    def failure(self) -> Failure | None:
        """Why the version that is wanted is not the one being model; None while it is."""
        return self._watcher.failure

    async def activate(self, version: str) -> None:
        """Make a version the current one. Raises UnknownVersionError, or ActivationError with nothing changed."""
        await self._watcher.activate(version)

    async def published(self) -> list[Manifest]:
        """What is known about each version that is published and can be read, in the order of publication."""
        if self._sync is not None:
            return await asyncio.to_thread(self._sync.published)
        return await asyncio.to_thread(published, self._directory)

    async def report(self, version: str, name: str) -> bytes:
        """A file of the report of a version. Raises UnknownVersionError, ReportNotFoundError or CheckpointError."""
        try:
            return await asyncio.to_thread(read_report, self._directory, version, name)
        except CheckpointNotFoundError:
            raise UnknownVersionError(f"there is no version {version!r}") from None
