"""Keeps the right version current: the one that CURRENT names, or the one the service is pinned to.

A new version is prepared on a thread of its own while the old model answers; then one assignment swaps them. A version
that cannot be prepared changes nothing, and is reported as failed until another one is wanted or it can be prepared.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import torch

from app.engine.documents import FailedLoad
from app.engine.errors import ActivationError, UnknownVersionError
from app.engine.events import Listener, Loaded, LoadFailed, LoadFailureEnded
from app.engine.loading import prepare
from app.engine.model_holder import ModelHolder
from app.engine.serving_model import ServingModel
from app.ratings.store import RatingsStore
from models.checkpoint.manifest import Manifest
from models.checkpoint.reader import read, read_held_out
from models.comparison import Comparison, compare
from models.errors import CheckpointError, CheckpointNotFoundError, RatecastError, RemoteError, UnprovenVersionError
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.directory import current_version, make_current, published, read_report, version_path
from models.registry.last_fit import LastFit
from models.registry.registry import DirectoryRegistry, Registry, check_proven, previous

P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 0.25
RETRY_SECONDS = 5.0  # memory may become free and permissions may change

logger = logging.getLogger(__name__)


class ModelWatcher:
    """Loads the version to serve, swaps it in, and answers questions about the published versions.

    `Engine` describes the arguments. A worker that starts while a damaged version is current serves the
    remembered one, as the other workers do.

    Attributes:
        lock: held while a version being served may change.
        failure: why the version that should be served is not; None while it is.
        placement: the devices that the current model is on.
    """

    def __init__(
        self,
        models: ModelHolder,
        directory: Path,
        pinned: str | None,
        remembered: Path | None,
        tell: Listener,
        ratings: RatingsStore | None,
        sync: CheckpointSync | None,
    ) -> None:
        self.failure: FailedLoad | None = None
        self.placement = models.placement
        self._models, self._directory, self._pinned, self._remembered = models, directory, pinned, remembered
        self._tell, self._ratings, self._sync = tell, ratings, sync
        self._registry: Registry = DirectoryRegistry(directory) if sync is None else sync.remote
        self._retry_at = 0.0
        self.lock = asyncio.Lock()  # held while a version being served may change
        self._executor = ThreadPoolExecutor(1, "loader", torch.set_num_threads, (1,))  # the cores are for answers

    @property
    def manifest(self) -> Manifest:
        """Facts about the current model. Raises NotReadyError before there is one."""
        return self._models.current.checkpoint.manifest

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating of the current model. Raises NotReadyError before there is one."""
        return self._models.current.scorer.scale

    @property
    def is_pinned(self) -> bool:
        """Whether the settings say which version is served."""
        return self._pinned is not None

    async def published(self) -> list[Manifest]:
        """The manifest of each published version that can be read, in the order of publication."""
        if self._sync is not None:
            return await asyncio.to_thread(self._sync.published)
        return await asyncio.to_thread(published, self._directory)

    async def last_fit(self) -> LastFit | None:
        """How the last fit ended; None if its job noted nothing. Raises CheckpointError or OSError."""
        return await asyncio.to_thread(self._registry.last_fit)

    async def report(self, version: str, name: str) -> bytes:
        """A file of the report of a version. Raises UnknownVersionError, ReportNotFoundError or CheckpointError."""
        try:
            return await asyncio.to_thread(read_report, self._directory, version, name)
        except CheckpointNotFoundError:
            raise UnknownVersionError(f"there is no version {version!r}") from None

    async def compare(self, version: str, against: str) -> Comparison:
        """How much better or worse one version predicts than another, on ratings that are new to both.

        Raises UnknownVersionError, ComparisonError or CheckpointError.
        """
        try:
            return await asyncio.to_thread(self._compare, version, against)
        except CheckpointNotFoundError:
            raise UnknownVersionError(f"there is no version {version!r}, or no {against!r}") from None

    def _compare(self, *versions: str) -> Comparison:
        if self._sync is not None:
            for version in versions:
                self._sync.provide(version)
        paths = [version_path(self._directory, version) for version in versions]
        one, other = (read(path) for path in paths)
        return compare(one, other, (read_held_out(paths[0]), read_held_out(paths[1])))

    async def start(self) -> None:
        """Load the first model. Raises the error if neither it nor the remembered one can be loaded."""
        version = None
        try:
            version = await self.run(self._wanted)
            await self._serve(version)
        except Exception as error:  # the other workers still answer from the remembered version
            remembered = await self.run(self._recall)
            if remembered in (None, version):
                raise
            await self._serve(remembered)
            self._fail(version, error)

    async def follow(self) -> NoReturn:
        """Look for a new version, for ever. No error ends this."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            async with self.lock:
                await self._look()

    async def previous(self) -> str | None:
        """The version that `roll_back` would serve; None where there is none that needs no force."""
        try:
            return await asyncio.to_thread(previous, self._registry)
        except CheckpointError:
            return None

    async def activate(self, version: str, *, force: bool = False) -> None:
        """Serve a version, and make CURRENT name it.

        Raises UnknownVersionError, RemoteError, or, with nothing changed, UnprovenVersionError or ActivationError.
        """
        async with self.changing():
            await self.make_current(version, force=force)

    async def make_current(self, version: str, *, force: bool) -> None:
        """As `activate`, for one who is `changing` already."""
        try:
            model = await self.run(self._make_current, version, force)
        except CheckpointNotFoundError:
            raise UnknownVersionError(f"there is no version {version!r}") from None
        self._swap(model)

    async def roll_back(self, *, force: bool) -> str:
        """Serve the version that was served before, and make CURRENT name it. Gives its name; raises as `activate`."""
        async with self.changing():
            version = await self.run(partial(previous, self._registry, force=force))
            self._swap(await self.run(self._make_current, version, force, True))
            return version

    @asynccontextmanager
    async def changing(self) -> AsyncGenerator[None]:
        """Nobody else changes the version meanwhile. What goes wrong becomes an error of this module."""
        if self._pinned is not None:
            raise ActivationError(f"the service is pinned to version {self._pinned}")
        async with self.lock:
            try:
                yield
            except (RemoteError, UnprovenVersionError):
                raise
            except (CheckpointError, OSError) as error:
                raise ActivationError(self.reason(error)) from error

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown()

    async def _look(self) -> None:
        version = None
        try:
            version = await self.run(self._wanted)
            if version == self._models.current.version:
                await self._check_sync()
            elif self.failure is None or self.failure.version != version or time.monotonic() >= self._retry_at:
                await self._serve(version)
        except Exception as error:  # whatever it is, the current model still answers
            self._fail(version, error)

    async def _check_sync(self) -> None:
        """Note a failure of the checkpoint sync: the local CURRENT may then not be the newest."""
        refusal = None if self._sync is None else await self.run(self._sync.refusal)
        if refusal is None:
            self._end_failure()
        else:
            self._note(*refusal)

    def _make_current(self, version: str, force: bool, back: bool = False) -> ServingModel:
        """The model of a version, which CURRENT names from now on; `back` where that is a roll-back."""
        if self._sync is not None:
            self._sync.provide(version)
        model = self.prepare(version)
        check_proven(model.checkpoint.manifest, force=force)
        if self._sync is None:
            make_current(self._directory, version, back=back)
        else:
            self._sync.make_current(version, back=back)
        return model

    async def _serve(self, version: str) -> None:
        self._swap(await self.run(self.prepare, version))

    def prepare(self, version: str) -> ServingModel:
        """The model of a version: one that answers already, else a new one. On the loader's thread."""
        for model in self._models.loaded:
            if model.version == version:
                return model
        revisions = None if self._ratings is None else self._ratings.revisions
        model, known = prepare(self._directory, version, self.placement, revisions), self._models.known_items
        return model.with_items(known, time.time()) if known else model  # what comes meanwhile: by the next view

    def _swap(self, model: ServingModel) -> None:
        self._end_failure()
        if self._models.model is not None and model.version == self._models.model.version:
            return  # perhaps in a view with other items
        self._models.model = model
        self._remember(model.version)
        logger.info("Serving model %s on %s", model.version, self.placement)
        manifest = model.checkpoint.manifest
        if self._ratings is not None and manifest.data.snapshot is not None:
            self._ratings.note_fit(manifest.data.snapshot.store, manifest.data.snapshot.revision)
        self._tell(Loaded(manifest.version, manifest.created_at, manifest.data))

    def _end_failure(self) -> None:
        if self.failure is not None:
            self.failure = None
            self._tell(LoadFailureEnded())

    def _fail(self, version: str | None, error: Exception) -> None:
        """Note that this process could not load a version. It will try again later."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        bug = None if isinstance(error, RatecastError | OSError | MemoryError) else error
        self._note(version, type(error).__name__, self.reason(error), bug)

    def _note(self, version: str | None, kind: str, reason: str, bug: Exception | None = None) -> None:
        """Note a failure. It is logged and counted once, however often loading is repeated."""
        known = self.failure
        if known is not None and (known.version, known.reason) == (version, reason):
            return
        self.failure = FailedLoad(version=version, reason=reason, since=datetime.now(UTC))
        logger.warning("Model %s cannot be loaded: %s", version or "(current)", reason, exc_info=bug)
        self._tell(LoadFailed(version, kind))

    def reason(self, error: Exception) -> str:
        """What went wrong, on one line and without the name of the directory."""
        text = str(error) if isinstance(error, RatecastError | OSError) else f"{type(error).__name__}: {error}"
        text = text.replace(f"{self._directory}{os.sep}", "").replace(str(self._directory), "the checkpoint directory")
        return text.splitlines()[0]

    def _wanted(self) -> str:
        return self._pinned or current_version(self._directory)

    def _remember(self, version: str) -> None:
        """Store the name of the served version, for workers that start later."""
        if self._remembered is None:
            return
        try:
            written = self._remembered.with_suffix(f".{os.getpid()}")
            written.write_text(version, "utf-8")
            written.replace(self._remembered)
        except OSError as error:
            logger.warning("The name of the served version cannot be stored for new workers: %s", error.strerror)

    def _recall(self) -> str | None:
        if self._remembered is None or not self._remembered.exists():
            return None
        return self._remembered.read_text("utf-8")

    async def run(self, work: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        """Do some work on the loader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
