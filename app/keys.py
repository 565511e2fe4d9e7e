"""API keys: who may ask. A key is compared by its digest, in constant time, and is never logged or echoed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

SCHEME = b"bearer "


class Keys:
    """The keys that are accepted; several at once, so that one can be replaced by the next without a pause.

    Args:
        keys: none at all accepts everybody.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def accept(self, authorization: bytes | None) -> bool:
        """Whether an Authorization header (`Bearer KEY`) names an accepted key."""
        if not self._digests:
            return True
        if authorization is None or authorization[: len(SCHEME)].lower() != SCHEME:
            return False
        given = _digest(authorization[len(SCHEME) :].strip())
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0  # all of them: no early end


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
