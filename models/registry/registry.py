"""One interface to published versions, in a directory or behind a URL, for the commands that manage them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

from models.checkpoint.manifest import Manifest
from models.errors import CheckpointNotFoundError, PublicationError, UnprovenVersionError
from models.registry import directory, last_fit
from models.registry.remote import RemoteRegistry
from models.registry.split import Split
from models.urls import is_url


class DirectoryRegistry:
    """The versions in a directory of this host, with the methods of `RemoteRegistry`."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self.current = partial(directory.current_version, path)
        self.versions = partial(directory.versions, path)
        self.published = partial(directory.published, path)
        self.served_before = partial(directory.served_before, path)
        self.add = partial(directory.copy, directory=path)
        self.activate = partial(directory.activate, path)
        self.prune = partial(directory.prune, path)
        self.set_split = partial(directory.set_split, path)
        self.last_fit = partial(last_fit.read, path)
        self.note_fit = partial(directory.note_fit, path)

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


def check_proven(manifest: Manifest, *, force: bool) -> None:
    """Raise UnprovenVersionError for a version that is served only by force, unless that is used."""
    if manifest.concern is not None and not force:
        raise UnprovenVersionError(f"{manifest.version} is {manifest.concern}: it is served only by force")


def activate(registry: Registry, version: str, *, force: bool = False) -> None:
    """Make a version current. Raises UnprovenVersionError, else as the registry's `activate`."""
    for manifest in registry.published():
        if manifest.version == version:
            check_proven(manifest, force=force)
    registry.activate(version)


def set_split(registry: Registry, split: Split | None, *, force: bool = False) -> None:
    """Let a version answer a share of the users beside the current one; None ends that.

    Raises UnprovenVersionError, PublicationError for the current version, or another CheckpointError if it is damaged.
    """
    if split is not None:
        if split.version == registry.current():
            raise PublicationError(f"{split.version} is the current version: a split needs another one beside it")
        for manifest in registry.published():
            if manifest.version == split.version:
                check_proven(manifest, force=force)
        with registry.local(split.version) as path:
            directory.verify(path)
    registry.set_split(split)


def previous(registry: Registry, *, force: bool = False) -> str:
    """The version that a roll-back makes current: of those that were served before, the last that is still published.

    One that is served only by force is passed over, unless `force` is used. Raises CheckpointNotFoundError where
    there is none at all, UnprovenVersionError where force is needed for each.
    """
    known = {manifest.version: manifest for manifest in registry.published()}
    found = [known[version] for version in reversed(registry.served_before()) if version in known]
    if not found:
        raise CheckpointNotFoundError(f"no version in {registry.name} was served before {registry.current()}")
    chosen = next((manifest for manifest in found if force or manifest.concern is None), found[0])
    check_proven(chosen, force=force)
    return chosen.version


def rollback(registry: Registry, *, force: bool = False) -> tuple[str, str]:
    """Make the version current that was served before the current one. Gives both names, from and to.

    Raises as `previous`, else as `activate`.
    """
    current, version = registry.current(), previous(registry, force=force)
    registry.activate(version, back=True)
    return current, version
