"""Where a job publishes: in a directory, or behind a URL by way of a temporary directory."""

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
    """The directory to publish in, and the remote registry to copy the version to, if `out` is a URL.

    The current version behind a URL is copied into that directory first: the gate compares with it, and a fit may start
    from it. Raises RemoteError for a registry that cannot be used.
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
    except RemoteError:
        raise
    except CheckpointNotFoundError:
        pass  # the first version
    except CheckpointError as error:
        log.warning("the current checkpoint cannot be copied, so the new model is not compared with it: %s", error)
