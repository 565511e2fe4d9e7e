"""Which version is served: the one that CURRENT names, or the one the service is pinned to.

A new version is prepared on a thread of its own while the old model answers; then one assignment swaps them. One that
cannot be prepared changes nothing, and is said to have failed until something else is wanted or it works out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import torch

from app.engine.errors import ActivationError, UnknownVersionError
from app.engine.events import Listener, Loaded, LoadFailed, Settled
from app.engine.loading import prepare
from app.engine.serving_model import Served, Store
from app.ratings.revisions import Revisions
from models.errors import CheckpointError, CheckpointNotFoundError, RatecastError, RemoteError
from models.registry import lifecycle
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import current_version

P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 0.25
RETRY_SECONDS = 5.0  # what failed for want of memory or of a permission may work later

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that is wanted and could not be served.

    Attributes:
        version: None where CURRENT does not say.
        kind: of the error, for metrics.
        reason: one line, without the name of the directory.
        since: when it failed so for the first time.
    """

    version: str | None
    kind: str
    reason: str
    since: datetime


class ModelWatcher:
    """Keeps a store at the version that is wanted.

    Args:
        store: what answers come from.
        directory: of the published checkpoints.
        pinned: a version to serve whatever CURRENT names.
        remembered: a file that workers share, to which the version being served is written. A worker that starts
            while a damaged version is current serves that one, as its siblings do.
        tell: is told of each load.
        changes: what says whose ratings changed; None where no ratings are kept.
        mirror: what the directory is a copy of; None where versions are published in the directory itself.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        pinned: str | None,
        remembered: Path | None,
        tell: Listener,
        changes: Revisions | None = None,
        mirror: CheckpointSync | None = None,
    ) -> None:
        self.failure: Failure | None = None
        self._store = store
        self._directory = directory
        self._pinned = pinned
        self._remembered = remembered
        self._tell = tell
        self._changes = changes
        self._mirror = mirror
        self._retry_at = 0.0
        self._changing = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "loader", torch.set_num_threads, (1,))  # the cores are for answers

    async def start(self) -> None:
        """Serve the first version. Raises what went wrong where neither it nor the remembered one can be served."""
        version = None
        try:
            version = await self._run(self._wanted)
            await self._serve(version)
        except Exception as error:  # whatever it is, the siblings go on answering from the remembered one
            remembered = await self._run(self._recall)
            if remembered in (None, version):
                raise
            await self._serve(remembered)
            self._fail(version, error)

    async def follow(self) -> NoReturn:
        """Look for a new version for ever. No failure ends it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            async with self._changing:
                await self._look()

    async def activate(self, version: str) -> None:
        """Serve a version, and make it the current one for all who follow CURRENT.

        Raises UnknownVersionError, RemoteError, or ActivationError with nothing changed.
        """
        if self._pinned is not None:
            raise ActivationError(f"the service is pinned to version {self._pinned}")
        async with self._changing:
            try:
                served = await self._run(self._provide, version)
                await self._run(self._make_current, version)
            except CheckpointNotFoundError:
                raise UnknownVersionError(f"there is no version {version!r}") from None
            except RemoteError:
                raise
            except (CheckpointError, OSError) as error:
                raise ActivationError(self._reason(error)) from error
            self._swap(served)

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown()

    async def _look(self) -> None:
        version = None
        try:
            version = await self._run(self._wanted)
            if version == self._store.version:
                await self._heed()
            elif self.failure is None or self.failure.version != version or time.monotonic() >= self._retry_at:
                await self._serve(version)
        except Exception as error:  # whatever it is, the model being served goes on answering
            self._fail(version, error)

    async def _heed(self) -> None:
        """What is wanted is served, unless the mirror could not bring what is wanted in truth."""
        refusal = None if self._mirror is None else await self._run(self._mirror.refusal)
        if refusal is None:
            self._settle()
        else:
            self._note(*refusal)

    def _provide(self, version: str) -> Served:
        """Prepare a version that may have to be brought here first."""
        if self._mirror is not None:
            self._mirror.provide(version)
        return self._prepare(version)

    def _make_current(self, version: str) -> None:
        if self._mirror is None:
            lifecycle.make_current(self._directory, version)
        else:
            self._mirror.make_current(version)

    async def _serve(self, version: str) -> None:
        self._swap(await self._run(self._prepare, version))

    def _prepare(self, version: str) -> Served:
        """Prepared already, where it is the one being served."""
        served = self._store.served
        if served is not None and served.version == version:
            return served
        return prepare(self._directory, version, self._store.place, self._changes)

    def _swap(self, served: Served) -> None:
        self._settle()
        if served is self._store.served:
            return
        self._store.swap(served)
        self._remember(served.version)
        logger.info("Serving model %s on %s", served.version, self._store.place)
        manifest = served.checkpoint.manifest
        self._tell(Loaded(manifest.version, manifest.created_at, manifest.data))

    def _settle(self) -> None:
        if self.failure is not None:
            self.failure = None
            self._tell(Settled())

    def _fail(self, version: str | None, error: Exception) -> None:
        """Note an error of this process's own attempt; the next one waits a little."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        bug = None if isinstance(error, RatecastError | OSError | MemoryError) else error
        self._note(version, type(error).__name__, self._reason(error), bug)

    def _note(self, version: str | None, kind: str, reason: str, bug: Exception | None = None) -> None:
        """Note a failure; it is logged and counted once, however often it is tried again."""
        known = self.failure
        if known is not None and (known.version, known.reason) == (version, reason):
            return
        self.failure = Failure(version, kind, reason, datetime.now(UTC))
        logger.warning("Model %s cannot be served: %s", version or "(current)", reason, exc_info=bug)
        self._tell(LoadFailed(version, kind))

    def _reason(self, error: Exception) -> str:
        text = str(error) if isinstance(error, RatecastError | OSError) else f"{type(error).__name__}: {error}"
        return text.replace(f"{self._directory}{os.sep}", "").splitlines()[0]

    def _wanted(self) -> str:
        return self._pinned or current_version(self._directory)

    def _remember(self, version: str) -> None:
        if self._remembered is None:
            return
        try:
            written = self._remembered.with_suffix(f".{os.getpid()}")
            written.write_text(version, "utf-8")
            written.replace(self._remembered)
        except OSError as error:
            logger.warning("Workers to come cannot be told which version is served: %s", error.strerror)

    def _recall(self) -> str | None:
        if self._remembered is None or not self._remembered.exists():
            return None
        return self._remembered.read_text("utf-8")

    async def _run(self, work: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        """Do some work on the loader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
