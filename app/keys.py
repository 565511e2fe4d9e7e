"""API keys: who may ask. A key is compared in constant time, and is never logged or echoed."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

SCHEME = b"bearer "


class Keys:
    """The keys that are accepted; several at once, so that one can be replaced by the next without a pause.

    Args:
        keys: none at all accepts everybody.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def accept(self, authorization: bytes | None) -> bool:
        """Whether an Authorization header (`Bearer KEY`) names an accepted key."""
        if not self._keys:
            return True
        if authorization is None or authorization[: len(SCHEME)].lower() != SCHEME:
            return False
        given = authorization[len(SCHEME) :].strip()
        accepted = False
        for key in self._keys:  # all of them: the time tells at most the keys' lengths
            accepted |= hmac.compare_digest(given, key)
        return accepted
