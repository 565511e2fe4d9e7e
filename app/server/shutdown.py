"""The pause between SIGTERM and the server's own shutdown.

On SIGTERM uvicorn stops accepting connections. But load balancers must first see that the service is
no longer ready, and clients that keep a connection must be asked to close it. So SIGTERM reaches uvicorn after a
pause, during which every request is answered as before.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Shutdown:
    """Whether this process is shutting down.

    Args:
        pause: seconds from SIGTERM to the server's shutdown.
    """

    def __init__(self, pause: float) -> None:
        self.begun = False
        self._pause = pause

    @contextmanager
    def delaying_the_end(self) -> Iterator[None]:
        """Until the block ends, SIGTERM stops the server after the pause, and a second SIGTERM at once."""
        loop, stop = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        if not callable(stop):  # the server handles no signals
            yield
            return

        def begin(sign: int, frame: FrameType | None) -> None:
            if self.begun:
                stop(sign, frame)
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, self._pause, stop, sign, None)

        signal.signal(signal.SIGTERM, begin)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stop)
