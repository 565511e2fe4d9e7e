"""What a request names and the service does not know: parameters of a query, members of a body.

Each is an error that repeats its name, shortened, and says which one is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, get_args
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.errors import MAX_FIELD_ERRORS
from models.did_you_mean import unknown_name

LONG_QUERY = 256  # bytes; longer ones are not kept


class Known:
    """What the requests of a route may name.

    Args:
        route: declares its parameters and its body.
    """

    def __init__(self, route: APIRoute) -> None:
        self._parameters = frozenset(
            name
            for parameter in route.dependant.query_params
            for name in members(parameter.field_info.annotation, ()) or {parameter.alias}
        )
        self._body = None if route.body_field is None else route.body_field.field_info.annotation

    def check(self, query: bytes) -> None:
        """Raise RequestValidationError for a query with parameters that are not known."""
        unknown = (_unknown if len(query) <= LONG_QUERY else _unknown.__wrapped__)(query, self._parameters)
        if unknown:
            found = [("parameter", name, self._parameters) for name in unknown[:MAX_FIELD_ERRORS]]
            raise RequestValidationError([_error(("query",), *each) for each in found])

    def explained(self, error: RequestValidationError) -> RequestValidationError:
        """What pydantic found wrong, with the members that are meant in place of those that are not known."""
        return RequestValidationError([self._explained(found) for found in error.errors()[:MAX_FIELD_ERRORS]])

    def _explained(self, found: Any) -> Any:
        if found["type"] != "extra_forbidden":
            return found
        *location, name = found["loc"]
        return _error(location, "member", name, members(self._body, location[1:]))


@lru_cache(4_096)  # a service is asked with few different queries
def _unknown(query: bytes, known: frozenset[str]) -> list[str]:
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    return [name for name in given if name not in known]


def members(type_: Any, location: Sequence[str | int]) -> set[str]:
    """The members of an object in a body of this type; `location` is its path. Of a union, those of all its types."""
    if not (isinstance(type_, type) and issubclass(type_, BaseModel)):
        return {name for part in get_args(type_) for name in members(part, location)}
    names = [part for part in location if isinstance(part, str)]  # a number is a position in a list
    if not names:
        return {*type_.model_fields}
    field = type_.model_fields.get(names[0])
    return set() if field is None else members(field.annotation, names[1:])


def _error(location: Sequence[str | int], kind: str, name: str, known: Iterable[str]) -> dict[str, Any]:
    return {"type": "unknown", "loc": tuple(location), "msg": unknown_name(kind, name, known)}
