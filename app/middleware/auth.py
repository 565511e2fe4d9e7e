"""Who asks, and what they may do: API keys and admin keys. Compared in constant time, never logged or echoed."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import NamedTuple

from app.errors import ForbiddenError, UnauthorizedError
from app.middleware.access import Access

SCHEME = b"bearer "


class Principal(NamedTuple):
    """Whoever showed a key, or asks where no key is needed.

    Attributes:
        number: tells principals apart.
        changes: whether they may change state.
        admin: whether their key is an admin key.
    """

    number: int
    changes: bool
    admin: bool


class ApiKeys:
    """The keys that are accepted; several at once, so that one can be replaced by the next without a pause.

    Args:
        clients: keys that may read. None: everybody may.
        admins: keys that may change state too. None: nobody may where clients have keys, else everybody.
        clients_may_rate: whether whoever may read may also store and delete ratings.
    """

    def __init__(self, clients: Iterable[str], admins: Iterable[str] = (), *, clients_may_rate: bool = False) -> None:
        clients, admins = [*clients], [*admins]
        self._keys = [
            (key.encode(), Principal(number, changes=False, admin=False)) for number, key in enumerate(clients)
        ]
        self._keys += [
            (key.encode(), Principal(-2 - number, changes=True, admin=True)) for number, key in enumerate(admins)
        ]
        self._anonymous = None if clients else Principal(-1, changes=not admins, admin=False)
        self._clients_may_rate = clients_may_rate

    def admit(self, authorization: bytes | None, access: Access) -> Principal:
        """Who asks, given the Authorization header. Raises UnauthorizedError or ForbiddenError."""
        principal = self.principal(authorization)
        if principal is None:
            raise UnauthorizedError("send an API key: Authorization: Bearer KEY")
        if principal.changes or access is Access.READ or (access is Access.RATE and self._clients_may_rate):
            return principal
        if authorization is None:
            raise UnauthorizedError("send an admin key: Authorization: Bearer KEY")
        raise ForbiddenError("only an admin key may change state")

    def principal(self, authorization: bytes | None) -> Principal | None:
        """Who sent an Authorization header (`Bearer KEY`); None for a key that is not accepted."""
        if not self._keys or authorization is None:
            return self._anonymous
        if authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        given = authorization[len(SCHEME) :].strip()
        found = None
        for key, principal in self._keys:  # all of them: the time tells at most the keys' lengths
            if hmac.compare_digest(given, key):
                found = principal
        return found
