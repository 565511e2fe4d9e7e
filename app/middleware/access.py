"""Who may use a route, and which headers its answers carry. Routes declare it; middleware is given it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from starlette.routing import Route

from app.middleware.security_headers import DATA, Headers

F = TypeVar("F", bound=Callable[..., Any])
NEEDS = "needs"  # in the scope of a request, and an attribute of endpoints
BY_NAME = "headers_by_name"  # in the scope: each layer looks for one or two of them
READING_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


class Access(Enum):
    """Who may use a route, and when."""

    PROBE = "anybody, however busy the service is"
    OPEN = "anybody"
    READ = "whoever has a key"
    RATE = "an admin, or whoever has a key where the settings say so"
    CHANGE = "an admin"


class Needs(NamedTuple):
    """What one route needs: who may use it, and the headers of its answers."""

    access: Access
    headers: Headers = DATA


READ, CHANGE = Needs(Access.READ), Needs(Access.CHANGE)


def needs(access: Access, headers: Headers = DATA) -> Callable[[F], F]:
    """Declare what an endpoint needs. One that declares nothing reads where its method is GET, and else changes."""

    def declare(endpoint: F) -> F:
        setattr(endpoint, NEEDS, Needs(access, headers))
        return endpoint

    return declare


def default_needs(method: str) -> Needs:
    """What a request needs for which no route declares anything."""
    return READ if method in READING_METHODS else CHANGE


class RouteNeeds:
    """Finds what a request needs by its method and path.

    Args:
        routes: of the whole service.
        more: paths of routes that cannot declare anything themselves.
    """

    def __init__(self, routes: Iterable[Route], more: Mapping[str, Needs]) -> None:
        self._of_path: dict[tuple[str, str], Needs] = {("GET", path): needs for path, needs in more.items()}
        self._of_other_methods = dict(more)  # of paths that change nothing, where a wrong method gets a 405
        self._of_template: dict[str, list[tuple[Route, Needs]]] = {}
        for route in routes:
            declared: Needs | None = getattr(route.endpoint, NEEDS, None)
            if declared is None:
                continue
            for method in route.methods or ():
                self._add(route, method, declared)

    def _add(self, route: Route, method: str, needs: Needs) -> None:
        if route.param_convertors:
            self._of_template.setdefault(method, []).append((route, needs))
            return
        self._of_path[method, route.path] = needs
        if needs.access in (Access.PROBE, Access.OPEN, Access.READ):
            self._of_other_methods[route.path] = needs

    def of(self, method: str, path: str) -> Needs:
        """What a request needs."""
        found = self._of_path.get((method, path))
        if found is not None:
            return found
        for route, needs in self._of_template.get(method, ()):
            if route.path_regex.match(path):
                return needs
        return self._of_other_methods.get(path) or default_needs(method)
