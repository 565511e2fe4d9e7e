"""From the name of a version to a model that may be served: loaded, verified, proven and warm.

All of it happens on the caller's thread, beside the model that answers meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from app.engine.answers import ListQuery, RankBy
from app.engine.lists import top_list, top_lists
from app.engine.store import Served
from models import checkpoint
from models.errors import CheckpointError
from models.manifest import Manifest

WARM_USERS = 3


def load(directory: Path, version: str, device: torch.device) -> Served:
    """The model of a version, verified and proven.

    Raises a CheckpointError or OSError for one that cannot be read, GoldenPairsError for one that predicts something
    else than it did when it was published.
    """
    served = Served.of(checkpoint.load(directory, version, device))
    return served


def prepare(directory: Path, version: str, device: torch.device) -> Served:
    """As `load`, and warm."""
    served = load(directory, version, device)
    _warm_up(served)
    return served


def published(directory: Path) -> list[Manifest]:
    """What is known about each published version whose manifest can be read, oldest first."""
    found = []
    for version in checkpoint.versions(directory):
        with suppress(CheckpointError, OSError):
            found.append(checkpoint.read_manifest(directory / version))
    return sorted(found, key=lambda manifest: manifest.created_at)


def _warm_up(served: Served) -> None:
    """Make lists in every order, so that the first client does not wait for pages, titles and kernels."""
    for user in ["1", "2", "nobody"]:
        queries = [ListQuery(user=user, rank_by=RankBy(order)) for order in served.orderings]
        for query in queries:
            top_list(served, query)
        top_lists(served, queries)
