"""One interface to published versions, in a directory or behind a URL, for the commands that manage them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

from models.errors import CheckpointNotFoundError
from models.registry import directory
from models.registry.remote import RemoteRegistry
from models.urls import is_url


class DirectoryRegistry:
    """The versions in a directory of this host, with the methods of `RemoteRegistry`."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self.current = partial(directory.current_version, path)
        self.versions = partial(directory.versions, path)
        self.published = partial(directory.published, path)
        self.add = partial(directory.copy, directory=path)
        self.activate = partial(directory.activate, path)
        self.prune = partial(directory.prune, path)

    @contextmanager
    def local(self, version: str | None) -> Iterator[Path]:
        yield directory.version_path(self._path, version)


Registry: TypeAlias = DirectoryRegistry | RemoteRegistry


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
    """Activate the version that was published before the current one. Returns both names, old and new.

    Raises CheckpointNotFoundError if there is no earlier version, else as `activate`.
    """
    current = registry.current()
    names = [manifest.version for manifest in registry.published()]
    before = names[: names.index(current)] if current in names else names
    if not before:
        raise CheckpointNotFoundError(f"no version in {registry.name} was published before {current}")
    registry.activate(before[-1])
    return current, before[-1]
