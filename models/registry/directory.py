"""A directory of checkpoints: which versions are in it, and which of them `CURRENT` names.

It does not change anything there (`models/registry/lifecycle.py` does).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from models.checkpoint import reader
from models.checkpoint.files import MANIFEST
from models.checkpoint.manifest import VERSION_NAME, Manifest
from models.checkpoint.reader import Checkpoint
from models.did_you_mean import did_you_mean
from models.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError

CURRENT = "CURRENT"


def versions(directory: Path) -> list[str]:
    """Names of the published versions, readable or not, in alphabetical order."""
    if not directory.is_dir():
        return []
    return sorted(
        path.parent.name for path in directory.glob(f"*/{MANIFEST}") if VERSION_NAME.fullmatch(path.parent.name)
    )


def published(directory: Path) -> list[Manifest]:
    """What is known about each version whose manifest can be read, in the order in which they were published."""
    found = []
    for version in versions(directory):
        with suppress(CheckpointError, OSError):
            found.append(reader.read_manifest(directory / version))
    return sorted(found, key=lambda manifest: (manifest.number, manifest.created_at))


def current_version(directory: Path) -> str:
    """The version that `CURRENT` names. Raises CheckpointNotFoundError where nothing has been published."""
    try:
        name = (directory / CURRENT).read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        example = f"python -m training fit --data ml-100k --split random:0.1 --preset bayes --out {directory}"
        raise CheckpointNotFoundError(
            f"no checkpoint has been published in {directory}; this makes one: {example}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointCorruptError(f"{directory / CURRENT} cannot be read: {error}") from error
    if not VERSION_NAME.fullmatch(name):
        raise CheckpointCorruptError(f"{directory / CURRENT} does not hold the name of a version")
    return name


def version_path(directory: Path, version: str | None = None) -> Path:
    """Where a version is, by default the current one. Raises CheckpointNotFoundError where there is no such version."""
    name = current_version(directory) if version is None else version
    if not VERSION_NAME.fullmatch(name) or not (directory / name).is_dir():
        raise CheckpointNotFoundError(f"no version {name!r} in {directory}{did_you_mean(name, versions(directory))}")
    return directory / name


def load(directory: Path, version: str | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """Read and verify a version, by default the current one. Raises as `version_path` and `reader.read`."""
    return reader.read(version_path(directory, version), device)


def read_report(directory: Path, version: str, name: str) -> bytes:
    """A file of a version's report. Raises as `version_path` and `reader.read_report`."""
    return reader.read_report(version_path(directory, version), name)
