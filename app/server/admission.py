"""Requests let in turn by turn, so that a turn of the event loop stays short however many clients ask at once.

A plain request takes the loop some 60 µs. Of a thousand connections that become readable together the last would be
looked at after a turn of 60 ms, and whatever comes meanwhile, health too, would wait for it. So a turn takes a few; the
rest wait in the order of their coming, and beyond a bound they are refused without being read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import Protocol

PER_TURN = 16  # about 1 ms
HEALTH = b"GET /health/live "


class Entry(Enum):
    """What becomes of what a client sent."""

    NOW = "now"
    LATER = "later"
    REFUSED = "refused"


class Visitor(Protocol):
    """A connection that waits."""

    def enter(self) -> None:
        """Go on: it is its turn."""


class Admission:
    """Counts what is let in at each turn of one event loop. Each process has one.

    Args:
        waiting: how many connections may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._most = waiting
        self._entered = 0
        self._waiting: deque[Visitor] = deque()
        self._turning = False

    def ask(self, visitor: Visitor, data: bytes, loop: asyncio.AbstractEventLoop) -> Entry:
        """Whether a connection may go on with what its client sent. Is it later, its `enter` is called then."""
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
        """Begin a turn with those that wait already."""
        self._entered = min(PER_TURN, len(self._waiting))
        for _ in range(self._entered):
            self._waiting.popleft().enter()
        self._turning = self._entered > 0
        if self._turning:
            loop.call_soon(self._turn, loop)
