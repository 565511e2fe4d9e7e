"""The process that workers are forked from: it has imported the application, and does nothing else.

So workers start in a fraction of a second and share the memory of what was imported. Forking it is safe, because it has
opened no file, database or device.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing import forkserver

from app.options import METRICS_FOLDER

PRELOADED = "app.preloaded"

context = multiprocessing.get_context("forkserver")


def begin() -> None:
    """Start the process, if it does not run. It imports the application while the caller goes on.

    Raises OSError if the folder of temporary files has no room for a socket, or too long a name.
    """
    context.set_forkserver_preload([PRELOADED])
    os.environ.setdefault(METRICS_FOLDER, os.devnull)  # prometheus_client asks on import whether there will be one
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # else Ctrl-C would interrupt its imports with a traceback
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
