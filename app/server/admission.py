"""Admission of requests to the event loop: a few a turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum

PER_TURN = 16  # requests: about 1 ms
HEALTH = b"GET /health/live ", b"HEAD /health/live "


class Entry(Enum):
    """The decision about the bytes that a client sent."""

    NOW = "now"
    LATER = "later"
    REFUSED = "refused"


class Admission:
    """Admits a few requests at each turn of the event loop, so that turns stay short however many clients ask at once.

    A plain request takes the loop some 60 µs. If a thousand connections became readable together, one turn would take
    60 ms, and requests that arrive meanwhile, health checks too, would wait for it. So the others wait in the order in
    which they came; those beyond a limit are refused without being read. Each process has one loop and one Admission.

    Args:
        waiting: how many connections may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._most, self._entered = waiting, 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False

    def ask(self, enter: Callable[[], None], data: bytes, loop: asyncio.AbstractEventLoop) -> Entry:
        """Decide whether a connection may continue with `data`. After `LATER`, `enter` is called in its turn."""
        if self._entered < PER_TURN or data.startswith(HEALTH):
            self._entered += 1
            if not self._turning:
                self._turning = True
                loop.call_soon(self._turn, loop)
            return Entry.NOW
        if len(self._waiting) >= self._most:
            return Entry.REFUSED
        self._waiting.append(enter)
        return Entry.LATER

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a turn with the connections that are already waiting."""
        self._entered = min(PER_TURN, len(self._waiting))
        for _ in range(self._entered):
            self._waiting.popleft()()
        self._turning = self._entered > 0
        if self._turning:
            loop.call_soon(self._turn, loop)
