"""How often each holder of a key may ask: token buckets, refilled by the clock that never jumps."""

from __future__ import annotations

import time
from dataclasses import dataclass

BURST_SECONDS = 2.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    since: float


class RateLimit:
    """Lets each holder ask so often; what was not used in the last seconds may be used at once.

    Args:
        per_second: requests a second, positive; a burst may have those of two seconds, at least one.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: dict[int, _Bucket] = {}

    def wait(self, holder: int) -> float:
        """Take one request from a holder's share. Gives 0, or the seconds until there is one again."""
        now = time.monotonic()
        bucket = self._buckets.setdefault(holder, _Bucket(self._most, now))
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.since) * self._per_second)
        bucket.since = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._per_second
        bucket.tokens -= 1
        return 0.0
