"""Between the signal to stop and the server's own shutdown.

The server stops accepting at once when it is told to. Load balancers need to see first that the service is not ready
any more, and clients that keep their connection need to be told to leave it. So the signal waits for a pause, in
which everything is answered as before.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Shutdown:
    """Whether this process is about to stop.

    Args:
        pause: seconds from SIGTERM to the server's shutdown.
    """

    def __init__(self, pause: float) -> None:
        self.begun = False
        self._pause = pause

    @contextmanager
    def delaying_the_end(self) -> Iterator[None]:
        """Put the pause before what SIGTERM leads to now. A second SIGTERM leads to it at once."""
        loop, stop = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        if not callable(stop):  # nobody shuts down in an orderly way
            yield
            return

        def drain(sign: int, frame: FrameType | None) -> None:
            if self.begun:
                stop(sign, frame)
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, self._pause, stop, sign, None)

        signal.signal(signal.SIGTERM, drain)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, stop)
