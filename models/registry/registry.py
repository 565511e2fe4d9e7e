"""Published versions wherever they are, in a directory or behind a URL: for those who look after either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from models.checkpoint.manifest import Manifest
from models.errors import CheckpointNotFoundError
from models.registry import directory, lifecycle
from models.registry.remote import RemoteRegistry
from models.urls import is_url


class Registry(Protocol):
    """What can be done with versions. Errors are CheckpointErrors, and leave everything as it was."""

    @property
    def name(self) -> str:
        """The path, or the URL without its password."""

    def current(self) -> str:
        """The version that CURRENT names."""

    def versions(self) -> list[str]:
        """Names of the versions, readable or not."""

    def published(self) -> list[Manifest]:
        """What is known about those that can be read, in the order of publication."""

    def activate(self, version: str) -> None:
        """Make a version the current one, once it has been verified."""

    def prune(self, keep: int) -> list[str]:
        """Remove all but the last `keep` versions and the current one, and give the names of those removed."""

    def add(self, path: Path, *, current: bool = True) -> Manifest:
        """Publish the version in a local directory, once it has been verified."""

    def local(self, version: str | None) -> AbstractContextManager[Path]:
        """A version, by default the current one, as a local directory, for the time of the block."""


class DirectoryRegistry:
    """The versions in a directory of this host."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def current(self) -> str:
        return directory.current_version(self._path)

    def versions(self) -> list[str]:
        return directory.versions(self._path)

    def published(self) -> list[Manifest]:
        return directory.published(self._path)

    def activate(self, version: str) -> None:
        lifecycle.activate(self._path, version)

    def prune(self, keep: int) -> list[str]:
        return lifecycle.prune(self._path, keep)

    def add(self, path: Path, *, current: bool = True) -> Manifest:
        return lifecycle.copy(path, self._path, current=current)

    @contextmanager
    def local(self, version: str | None) -> Iterator[Path]:
        yield directory.version_path(self._path, version)


def open_registry(place: str) -> Registry:
    """The versions at a path or a URL."""
    return RemoteRegistry(place) if is_url(place) else DirectoryRegistry(Path(place))


@contextmanager
def local_version(place: str) -> Iterator[Path]:
    """One version as a local directory: the one at a path or URL, or the current one of the registry there."""
    above, _, name = place.rstrip("/").rpartition("/")
    registry = open_registry(place)
    try:
        wanted = registry.current()
    except CheckpointNotFoundError:
        registry, wanted = open_registry(above or "."), name
    with registry.local(wanted) as path:
        yield path


def rollback(registry: Registry) -> tuple[str, str]:
    """Make the version that was published before the current one current. Gives both names, from and to.

    Raises CheckpointNotFoundError where there is none before it, else as `Registry.activate`.
    """
    current = registry.current()
    names = [manifest.version for manifest in registry.published()]
    before = names[: names.index(current)] if current in names else names
    if not before:
        raise CheckpointNotFoundError(f"no version in {registry.name} was published before {current}")
    registry.activate(before[-1])
    return current, before[-1]
