"""A job that is done again and again, whatever became of it the last time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NoReturn

from models.errors import RatecastError
from training.errors import RefusedError

RETRY_SECONDS = 60.0  # after a failure that may pass: a database that is away, a full disk

log = logging.getLogger(__name__)


def repeat(
    every: float,
    work: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> NoReturn:
    """Do the work now and then every so many seconds, counted from its beginnings; sooner where it failed."""
    while True:
        began = clock()
        try:
            work()
            pause = every
        except RefusedError as error:  # more ratings may help, the same ones do not
            log.error("error: %s", error)  # noqa: TRY400 - a line for whoever reads the log; there is no bug to trace
            pause = every
        except RatecastError as error:
            log.error("error: %s", error)  # noqa: TRY400
            pause = min(every, RETRY_SECONDS)
        left = began + pause - clock()
        log.info("the next fit begins in %.0f s", max(left, 0.0))
        sleep(max(left, 0.0))
