"""Who asks, and what they may: API keys and admin keys. Compared in constant time, never logged or echoed."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import NamedTuple

SCHEME = b"bearer "


class Principal(NamedTuple):
    """Whoever showed a key, or asks where none is wanted.

    Attributes:
        number: tells holders apart.
        changes: whether they may change state.
        admin: whether the key is one of an admin.
    """

    number: int
    changes: bool
    admin: bool


class Keys:
    """The keys that are accepted; several at once, so that one can be replaced by the next without a pause.

    Args:
        clients: may ask. None: everybody may.
        admins: may change state too. None: nobody may where clients have keys, else everybody.
    """

    def __init__(self, clients: Iterable[str], admins: Iterable[str] = ()) -> None:
        clients, admins = [*clients], [*admins]
        self._keys = [
            (key.encode(), Principal(number, changes=False, admin=False)) for number, key in enumerate(clients)
        ]
        self._keys += [
            (key.encode(), Principal(-2 - number, changes=True, admin=True)) for number, key in enumerate(admins)
        ]
        self._anonymous = None if clients else Principal(-1, changes=not admins, admin=False)

    def holder(self, authorization: bytes | None) -> Principal | None:
        """Who sent an Authorization header (`Bearer KEY`); None for those who may not ask."""
        if not self._keys or authorization is None:
            return self._anonymous
        if authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        given = authorization[len(SCHEME) :].strip()
        found = None
        for key, holder in self._keys:  # all of them: the time tells at most the keys' lengths
            if hmac.compare_digest(given, key):
                found = holder
        return found
