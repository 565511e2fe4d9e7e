"""Verifies the version to serve while the service is imported: hashing leaves the interpreter to the imports.

It imports no more than reading a checkpoint needs. With a million items that saves 0.3 s of a start.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from app.memory import limit_arenas
from app.settings import Settings
from models.checkpoint import reader
from models.registry.directory import current_version, version_path


@contextmanager
def begun() -> Iterator[None]:
    """Verify on a thread during the block. What goes wrong is found again, and told, by the launcher."""
    limit_arenas()  # before the first thread of the program
    with ThreadPoolExecutor(1, "verification", torch.set_num_threads, (1,)) as thread:
        thread.submit(_verify)
        yield


def _verify() -> None:
    settings = Settings()
    directory = settings.directory()
    reader.read(version_path(directory, settings.pinned_version or current_version(directory)))
