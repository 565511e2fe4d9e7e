"""The rate limit of each principal, by token buckets, which a monotonic clock refills."""

from __future__ import annotations

import math
import time

from app.errors import TooManyRequestsError

BURST_SECONDS = 2.0


class RateLimit:
    """Allows each principal a number of requests per second. A bucket holds the requests of two seconds.

    Args:
        per_second: requests a second, positive; a burst may have those of two seconds, at least one.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: dict[int, tuple[float, float]] = {}  # tokens, and since when there are so many

    def check(self, principal: int) -> None:
        """Count a request of a principal. Raises TooManyRequestsError."""
        if seconds := self.wait(principal):
            raise TooManyRequestsError(math.ceil(seconds))

    def wait(self, principal: int) -> float:
        """Take a token from a principal's bucket. Returns 0, or the seconds until there is a token."""
        now = time.monotonic()
        tokens, since = self._buckets.get(principal, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._per_second)
        missing = max(0.0, 1 - tokens)
        self._buckets[principal] = tokens if missing else tokens - 1, now
        return missing / self._per_second
