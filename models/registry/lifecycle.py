"""What happens to the versions of a directory after they were published: activated, copied elsewhere, removed.

Each step is one rename under the directory's lock, so that a kill between any two leaves whole versions and a CURRENT
that names one. This module does not know who serves a version; a `Hold` says that somebody does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from models.checkpoint import golden, reader
from models.checkpoint.files import MANIFEST
from models.checkpoint.manifest import Manifest
from models.checkpoint.reader import Checkpoint, read_manifest
from models.errors import CheckpointNotFoundError, PublicationError
from models.registry.directory import current_version, published, version_path
from models.registry.publication import (
    STAGING,
    flush_directory,
    next_number,
    only_publisher,
    put_in_place,
    replace_current,
    reporting,
    staging,
    write_pointer,
)


class Hold:
    """Keeps a version from being pruned for as long as this object lives: a shared lock on its manifest.

    Reading is enough for it. Where the file system has no locks, or the version is not there, it holds nothing.
    """

    def __init__(self, version: Path) -> None:
        self._descriptor = -1
        with suppress(OSError):
            self._descriptor = os.open(version / MANIFEST, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def verify(path: Path) -> None:
    """Raise a CheckpointError where the checkpoint at `path` is damaged, or does not predict its golden pairs."""
    check_golden_pairs(reader.read(path))


def check_golden_pairs(loaded: Checkpoint) -> None:
    """Raise GoldenPairsError where the model does not predict its golden pairs."""
    shape = loaded.manifest.model
    rows = [
        torch.from_numpy(ids.rows(loaded.golden[column].to_pylist())).to(loaded.model.device)
        for ids, column in ((loaded.users, "user"), (loaded.items, "item"))
    ]
    golden.check(loaded.golden, loaded.model(*rows).clamp(shape.rating_min, shape.rating_max).cpu())


def activate(directory: Path, version: str) -> None:
    """Point CURRENT at a version, in one step, once it has been verified.

    Raises CheckpointNotFoundError, another CheckpointError for one that is damaged, or PublicationError where the
    directory cannot be written; CURRENT stays.
    """
    verify(version_path(directory, version))
    make_current(directory, version)


def make_current(directory: Path, version: str) -> None:
    """As `activate`, of a version that the caller has verified."""
    with reporting(f"cannot make {version} current in {directory}", "nothing was changed"), only_publisher(directory):
        if not (directory / version).is_dir():  # pruned meanwhile
            raise CheckpointNotFoundError(f"no version {version!r} in {directory}")
        replace_current(directory, write_pointer(directory, version))


def copy(source: Path, directory: Path, *, current: bool = True) -> Manifest:
    """Publish a checkpoint that was made elsewhere: `source` is the directory of one version.

    It is verified where it is and again where it comes to. Raises PublicationError, with nothing published, where it is
    there already or cannot be written, another CheckpointError for one that is damaged.
    """
    source = source.resolve()
    verify(version_path(source.parent, source.name))
    with reporting(f"cannot publish to {directory}", "nothing was published"):
        directory.mkdir(parents=True, exist_ok=True)
        with only_publisher(directory), staging(directory) as staged:
            if (directory / source.name).exists():
                raise PublicationError(f"{directory} has a version {source.name} already; nothing was published")
            copied = staged / source.name
            shutil.copytree(source, copied)
            manifest = renumbered(read_manifest(copied), published(directory))
            (copied / MANIFEST).write_bytes(manifest.to_json())
            verify(copied)
            put_in_place(directory, copied, source.name, activate=current)
            staged.rmdir()
            return manifest


def renumbered(manifest: Manifest, before: Sequence[Manifest]) -> Manifest:
    """The manifest of a version that is published after others."""
    return manifest.model_copy(update={"number": next_number(before)})


def prune(directory: Path, keep: int) -> list[str]:
    """Remove all but the last `keep` versions, the current one, and those that somebody holds. Gives what it removed.

    A version loses its name before its files go. One whose manifest cannot be read is left alone. Raises
    CheckpointError where CURRENT names nothing, PublicationError where something cannot be removed.
    """
    with reporting(f"cannot prune {directory}", "what is left is whole"), only_publisher(directory):
        old = superseded(published(directory), current_version(directory), keep)
        return [version for version in old if _remove_unless_held(directory, version)]


def superseded(known: Sequence[Manifest], current: str, keep: int) -> list[str]:
    """Which of the published versions, in their order, are neither among the last `keep` nor current."""
    return [manifest.version for manifest in known[: len(known) - keep] if manifest.version != current]


def _remove_unless_held(directory: Path, version: str) -> bool:
    descriptor = os.open(directory / version / MANIFEST, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        nameless = (directory / version).rename(directory / f"{STAGING}{version}")
        flush_directory(directory)
        shutil.rmtree(nameless)
        return True
    finally:
        os.close(descriptor)
