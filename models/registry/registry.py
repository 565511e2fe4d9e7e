"""Published versions wherever they are: in a directory, or behind a URL. For those who look after either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from models.checkpoint import reader
from models.checkpoint.manifest import Manifest
from models.errors import CheckpointNotFoundError
from models.registry import lifecycle
from models.registry.remote import RemoteRegistry, is_url


class Registry(Protocol):
    """What can be done with versions. Errors are CheckpointErrors, and leave everything as it was."""

    def current(self) -> str:
        """The version that CURRENT names."""

    def versions(self) -> list[str]:
        """Names of the versions, readable or not."""

    def published(self) -> list[Manifest]:
        """What is known about those that can be read, in the order of publication."""

    def activate(self, version: str) -> None:
        """Make a version the current one, once it has been verified and proven."""

    def rollback(self) -> tuple[str, str]:
        """Make the one before the current one current. Gives both names, from and to."""

    def prune(self, keep: int) -> list[str]:
        """Remove old versions, and give their names."""

    def put(self, path: Path, *, current: bool = True) -> Manifest:
        """Publish the version in a local directory."""

    def borrowed(self, version: str | None) -> AbstractContextManager[Path]:
        """A version, by default the current one, as a local directory, for the time of the block."""


class DirectoryRegistry:
    """A shelf on this host."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def current(self) -> str:
        return reader.current_version(self._path)

    def versions(self) -> list[str]:
        return reader.versions(self._path)

    def published(self) -> list[Manifest]:
        return reader.published(self._path)

    def activate(self, version: str) -> None:
        lifecycle.activate(self._path, version)

    def rollback(self) -> tuple[str, str]:
        return lifecycle.rollback(self._path)

    def prune(self, keep: int) -> list[str]:
        return lifecycle.prune(self._path, keep)

    def put(self, path: Path, *, current: bool = True) -> Manifest:
        return lifecycle.copy(path, self._path, current=current)

    @contextmanager
    def borrowed(self, version: str | None) -> Iterator[Path]:
        path = self._path / (version or self.current())
        if not path.is_dir():
            raise CheckpointNotFoundError(f"no version {path.name!r} in {self._path}")
        yield path


def at(place: str) -> Registry:
    """The shelf at a path or a URL."""
    return RemoteRegistry(place) if is_url(place) else DirectoryRegistry(Path(place))


@contextmanager
def version_at(place: str) -> Iterator[Path]:
    """One version as a local directory. `place` is its path or URL, or that of a shelf, whose current one is taken."""
    above, _, name = place.rstrip("/").rpartition("/")
    shelf = at(place)
    try:
        wanted = shelf.current()
    except CheckpointNotFoundError:
        shelf, wanted = at(above or "."), name
    with shelf.borrowed(wanted) as path:
        yield path
