"""How often each principal may ask: token buckets, refilled by a clock that never jumps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from app.errors import TooManyRequestsError
from app.middleware.auth import Principal

BURST_SECONDS = 2.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    since: float


class RateLimit:
    """Allows each principal so many requests a second. Requests not made in the last two seconds may be made up for.

    Args:
        per_second: requests a second, positive; a burst may have those of two seconds, at least one.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: dict[int, _Bucket] = {}

    def check(self, principal: Principal) -> None:
        """Count one request. Raises TooManyRequestsError; admins have no limit."""
        if not principal.admin and (seconds := self.wait(principal.number)):
            raise TooManyRequestsError(math.ceil(seconds))

    def wait(self, number: int) -> float:
        """Take one request from a principal's bucket. Gives 0, or the seconds until there is one again."""
        now = time.monotonic()
        bucket = self._buckets.setdefault(number, _Bucket(self._most, now))
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.since) * self._per_second)
        bucket.since = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_second
        bucket.tokens -= 1
        return 0.0
