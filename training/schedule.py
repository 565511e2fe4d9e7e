"""One fit, or with `--every` one after another, whether or not they succeed. How each ended is noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from models.errors import CheckpointError, RatecastError
from models.registry.last_fit import MOST_CHARACTERS, LastFit
from models.registry.registry import open_registry
from models.urls import is_url
from training.errors import RefusedError

RETRY_SECONDS = 60.0  # after a failure that may pass: an unreachable database, a full disk

Note = Callable[[LastFit], None]

log = logging.getLogger(__name__)


def once(work: Callable[[], str], note: Note) -> None:
    """Do the work, which gives the version that it published, and note how it ended."""
    began = datetime.now(UTC)
    try:
        version = work()
    except Exception as error:
        note(_ended(began, error))
        raise
    note(_ended(began, version))


def repeat(
    every: float,
    work: Callable[[], str],
    note: Note,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> NoReturn:
    """Do the work now, and again every so many seconds from start to start; sooner after a failure."""
    while True:
        began, at, pause = clock(), datetime.now(UTC), every
        try:
            result: str | Exception = work()
        except RatecastError as error:
            log.error("error: %s", error)  # noqa: TRY400 - not a bug, so one line without a traceback
            result = error
            if not isinstance(error, RefusedError):  # a retry would be refused again: only more ratings can help
                pause = min(every, RETRY_SECONDS)
        except Exception as error:
            note(_ended(at, error))
            raise
        left = max(began + pause - clock(), 0.0)
        note(_ended(at, result, left))
        log.info("the next fit starts in %.0f s", left)
        sleep(left)


def note_in(out: str, fit: LastFit) -> None:
    """Note a fit in the checkpoint directory, or behind its URL. A directory is not made for it."""
    if not is_url(out) and not Path(out).is_dir():
        return
    try:
        open_registry(out).note_fit(fit)
    except CheckpointError as error:
        log.warning("the service cannot be told how the fit ended: %s", error)


def _ended(began: datetime, result: str | Exception, left: float | None = None) -> LastFit:
    """The record of a fit that has ended now, with a version or an error; the next begins in so many seconds."""
    now, failed = datetime.now(UTC), isinstance(result, Exception)
    return LastFit(
        outcome="refused" if isinstance(result, RefusedError) else "failed" if failed else "published",
        began_at=began,
        ended_at=now,
        version=None if failed else str(result),
        reason=_reason(result) if isinstance(result, Exception) else None,
        next_at=None if left is None else now + timedelta(seconds=left),
    )


def _reason(error: Exception) -> str:
    said = str(error) if isinstance(error, RatecastError) else f"{type(error).__name__}: {error}"
    return said[:MOST_CHARACTERS]
