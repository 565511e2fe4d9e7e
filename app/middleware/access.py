"""Checks API keys, rate limits and load. Routes declare what they need; `Guard` refuses before a body is read.

Keys are compared in constant time, never logged or echoed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from starlette.routing import Route
from starlette.types import Scope

from app.engine.errors import OverloadedError
from app.errors import ForbiddenError, UnauthorizedError
from app.middleware.browsers import DATA, Headers
from app.middleware.rate_limit import RateLimit
from app.observability.telemetry import Telemetry

F = TypeVar("F", bound=Callable[..., Any])
NEEDS = "needs"  # in the scope of a request, and an attribute of endpoints
BY_NAME = "headers_by_name"  # in the scope: each layer looks for one or two of them
READING_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
SCHEME = b"bearer "
SLASH = "\ud800"  # stands for a slash of an id while a path is routed: no path that is UTF-8 has a lone surrogate


def decode_segments(scope: Scope) -> None:
    """Let all that look at a path tell a slash of an id, percent-encoded, from one of the path."""
    raw = scope.get("raw_path") or b""
    if b"%2f" not in raw and b"%2F" not in raw:
        return
    segments = raw.decode("latin-1").split("/")
    scope["path"] = "/".join(unquote(segment, errors="replace").replace("/", SLASH) for segment in segments)


class Access(Enum):
    """Who may use a route, and when."""

    PROBE = "everybody, also when the service is busy"
    OPEN = "anybody"
    READ = "everybody who has a key"
    RATE = "an admin, or everybody who has a key if the settings say so"
    CHANGE = "an admin"


PROBE, OPEN = Access.PROBE, Access.OPEN  # looked up once: each request is compared with them


class Needs(NamedTuple):
    """What one route needs: who may use it, and the headers of its answers."""

    access: Access
    headers: Headers = DATA


READ, CHANGE = Needs(Access.READ), Needs(Access.CHANGE)


def needs(access: Access, headers: Headers = DATA) -> Callable[[F], F]:
    """Declare what an endpoint needs. Without a declaration it needs READ if its method is GET, else CHANGE."""

    def declare(endpoint: F) -> F:
        setattr(endpoint, NEEDS, Needs(access, headers))
        return endpoint

    return declare


def needs_of(route: Route, method: str) -> Needs:
    """What a route needs, declared or not."""
    declared: Needs | None = getattr(route.endpoint, NEEDS, None)
    return declared or (READ if method in READING_METHODS else CHANGE)


class RouteNeeds:
    """Finds what a request needs by its method and path, before it is routed. The route itself has the last word.

    Args:
        routes: of the whole service.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._of_path: dict[tuple[str, str], Needs] = {}
        self._of_other_methods: dict[str, Needs] = {}  # of paths without changes: a wrong method gets a 405
        self._of_template: dict[str, list[tuple[Route, Needs]]] = {}
        for route in routes:
            for method in route.methods or ():
                self._add(route, method, needs_of(route, method))

    def _add(self, route: Route, method: str, needs: Needs) -> None:
        if route.param_convertors:
            self._of_template.setdefault(method, []).append((route, needs))
            return
        self._of_path[method, route.path] = needs
        if hasattr(route.endpoint, NEEDS) and needs.access in (Access.PROBE, Access.OPEN, Access.READ):
            self._of_other_methods[route.path] = needs

    def of(self, method: str, path: str) -> Needs:
        """What a request needs."""
        found = self._of_path.get((method, path))
        if found is not None:
            return found
        for route, needs in self._of_template.get(method, ()):
            if route.path_regex.match(path):
                return needs
        return self._of_other_methods.get(path) or (READ if method in READING_METHODS else CHANGE)


class Principal(NamedTuple):
    """The owner of a key, or an anonymous client if no key is needed. `number` identifies the principal."""

    number: int
    changes: bool
    admin: bool


class ApiKeys:
    """The keys that are accepted; there can be several, so that keys can be replaced without a pause.

    Args:
        clients: keys that may read. Without any, everybody may.
        admins: keys that may also change state. Without any, nobody may if there are client keys, else everybody.
        clients_may_rate: whether client keys may also store and delete ratings.
    """

    def __init__(self, clients: Iterable[str], admins: Iterable[str] = (), *, clients_may_rate: bool = False) -> None:
        clients, admins = [*clients], [*admins]
        self._keys = [(key.encode(), Principal(at, changes=False, admin=False)) for at, key in enumerate(clients)]
        self._keys += [(key.encode(), Principal(-2 - at, changes=True, admin=True)) for at, key in enumerate(admins)]
        self._anonymous = None if clients else Principal(-1, changes=not admins, admin=False)
        self._clients_may_rate = clients_may_rate

    def admit(self, authorization: bytes | None, access: Access) -> Principal:
        """The principal of an Authorization header. Raises UnauthorizedError or ForbiddenError."""
        principal = self.principal(authorization)
        if principal is None:
            raise UnauthorizedError("send an API key: Authorization: Bearer KEY")
        if principal.changes or access is Access.READ or (access is Access.RATE and self._clients_may_rate):
            return principal
        if authorization is None:
            raise UnauthorizedError("send an admin key: Authorization: Bearer KEY")
        raise ForbiddenError("only an admin key may change state")

    def principal(self, authorization: bytes | None) -> Principal | None:
        """The principal of an Authorization header (`Bearer KEY`); None for a key that is not accepted."""
        if not self._keys or authorization is None:
            return self._anonymous
        if authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        given = authorization[len(SCHEME) :].strip()
        found = None
        for key, principal in self._keys:  # all of them, so that the time reveals at most the keys' lengths
            if hmac.compare_digest(given, key):
                found = principal
        return found


class Guard:
    """Refuses requests that are not allowed, or not now.

    Args:
        keys: the accepted keys. Open routes need none, and do not count against a rate limit.
        rate_limit: of each principal except admins; None for no limit.
        concurrent: maximum number of requests in progress.
        telemetry: counts the requests in progress.
    """

    def __init__(self, keys: ApiKeys, rate_limit: RateLimit | None, concurrent: int, telemetry: Telemetry) -> None:
        self._keys = keys
        self._rate_limit = rate_limit
        self._concurrent = concurrent
        self._telemetry = telemetry

    def knows(self, scope: Scope) -> bool:
        """Whether a request of an open route shows a key that is accepted, or none is needed."""
        return self._keys.principal(scope[BY_NAME].get(b"authorization")) is not None

    def check_route(self, scope: Scope, needs: Needs) -> None:
        """Raise as `check` does where the route that answers needs more than was checked before routing."""
        if needs.access is not scope[NEEDS].access and needs.access not in (PROBE, OPEN):
            self._keys.admit(scope[BY_NAME].get(b"authorization"), needs.access)

    def check(self, scope: Scope) -> None:
        """Raise OverloadedError, UnauthorizedError, ForbiddenError or TooManyRequestsError for a request."""
        access = scope[NEEDS].access
        if access is PROBE:
            return
        if self._telemetry.under_way > self._concurrent:
            raise OverloadedError(f"{self._concurrent} requests are already in progress")
        if access is OPEN:
            return
        principal = self._keys.admit(scope[BY_NAME].get(b"authorization"), access)
        if self._rate_limit is not None and not principal.admin:
            self._rate_limit.check(principal.number)
