"""`fit --every`: repeats a job, whether or not it succeeded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NoReturn

from models.errors import RatecastError
from training.errors import RefusedError

RETRY_SECONDS = 60.0  # after a failure that may pass: an unreachable database, a full disk

log = logging.getLogger(__name__)


def repeat(
    every: float,
    work: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> NoReturn:
    """Do the work now, and again every so many seconds from start to start; sooner after a failure."""
    while True:
        began = clock()
        try:
            work()
            pause = every
        except RatecastError as error:
            log.error("error: %s", error)  # noqa: TRY400 - not a bug, so one line without a traceback
            refused = isinstance(error, RefusedError)  # a retry would be refused again: only more ratings can help
            pause = every if refused else min(every, RETRY_SECONDS)
        left = began + pause - clock()
        log.info("the next fit starts in %.0f s", max(left, 0.0))
        sleep(max(left, 0.0))
