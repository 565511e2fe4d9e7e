"""Where a job publishes: in a directory, or in one of its own, from which the version is sent to a URL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from models.errors import CheckpointError, CheckpointNotFoundError, RemoteError
from models.registry.checkpoint_sync import CheckpointSync
from models.registry.remote import RemoteRegistry
from models.urls import is_url

log = logging.getLogger(__name__)


@contextmanager
def destination(out: str | None) -> Iterator[tuple[Path | None, RemoteRegistry | None]]:
    """The directory to publish in, and where to send the version from there, if it is to be sent.

    What is current behind a URL is brought into that directory: the gate compares with it, and a fit may start from it.
    Raises RemoteError, before anything is fitted, for a store that cannot be used.
    """
    if out is None or not is_url(out):
        yield None if out is None else Path(out), None
        return
    with TemporaryDirectory(prefix="ratecast-") as folder:
        directory, remote = Path(folder), RemoteRegistry(out)
        _bring_current(remote, directory)
        yield directory, remote


def _bring_current(remote: RemoteRegistry, directory: Path) -> None:
    try:
        CheckpointSync(remote, directory).provide(remote.current())
    except (CheckpointNotFoundError, RemoteError) as error:
        if isinstance(error, RemoteError):
            raise
    except CheckpointError as error:
        log.warning("the current checkpoint cannot be compared with: %s", error)
