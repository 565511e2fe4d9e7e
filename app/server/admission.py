"""Admits a few requests at each turn of the event loop, so that turns stay short however many clients ask at once.

A plain request takes the loop some 60 µs. If a thousand connections became readable together, one turn would take
60 ms, and whatever arrived meanwhile, health checks too, would wait for it. So a turn admits a few requests. The others
wait in the order in which they came; those beyond a bound are refused without being read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import Protocol

PER_TURN = 16  # about 1 ms
HEALTH = b"GET /health/live "


class Entry(Enum):
    """What happens to what a client sent."""

    NOW = "now"
    LATER = "later"
    REFUSED = "refused"


class Visitor(Protocol):
    """A connection that may have to wait."""

    def enter(self) -> None:
        """Go on: it is the connection's turn."""


class Admission:
    """Counts what is admitted at each turn of one event loop. Each process has one.

    Args:
        waiting: how many connections may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._most = waiting
        self._entered = 0
        self._waiting: deque[Visitor] = deque()
        self._turning = False

    def ask(self, visitor: Visitor, data: bytes, loop: asyncio.AbstractEventLoop) -> Entry:
        """Whether a connection may go on with what its client sent. After `LATER` its `enter` is called in its turn."""
        if self._entered < PER_TURN or data.startswith(HEALTH):
            self._entered += 1
            if not self._turning:
                self._turning = True
                loop.call_soon(self._turn, loop)
            return Entry.NOW
        if len(self._waiting) >= self._most:
            return Entry.REFUSED
        self._waiting.append(visitor)
        return Entry.LATER

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a turn with the connections that are already waiting."""
        self._entered = min(PER_TURN, len(self._waiting))
        for _ in range(self._entered):
            self._waiting.popleft().enter()
        self._turning = self._entered > 0
        if self._turning:
            loop.call_soon(self._turn, loop)
