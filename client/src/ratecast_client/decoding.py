"""Turns JSON documents into the classes of `types` and `model_types`, by the types of their fields.

Unknown members are ignored, so that the client works with a newer service. A member that is missing or has another
type is an error that names the field. This module knows neither HTTP nor any particular class.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Decode = Callable[[Any], Any]


class DecodingError(ValueError):
    """A document does not have the expected type. `path` names the members that lead to the wrong value."""

    def __init__(self, reason: str, *path: str) -> None:
        super().__init__(reason, *path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{'.'.join(self.path) or 'the answer'}: {self.reason}"

    def inside(self, name: str) -> DecodingError:
        """The same error, with one more member in front of the path."""
        return DecodingError(self.reason, name, *self.path)


def decode(cls: type[T], document: Any) -> T:
    """The document as an object of the class. Raises DecodingError."""
    found: T = decoder(cast("Any", cls))(document)
    return found


@cache
def decoder(hint: Any) -> Decode:
    """A function that reads values of one type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _object(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _optional(decoder(inner))
    if origin is tuple:
        return _array(decoder(arguments[0]))
    if origin is Mapping:
        return _mapping(decoder(arguments[1]))
    return SCALARS[str if origin is Literal else hint]


def _object(cls: Any) -> Decode:
    hints = get_type_hints(cls)
    fields = [
        (field.name, decoder(hints[field.name]), field.default is dataclasses.MISSING)
        for field in dataclasses.fields(cls)
    ]

    def read(document: Any) -> Any:
        if not isinstance(document, dict):
            raise DecodingError("expected an object")
        values = {}
        for name, read_value, required in fields:
            if name not in document:
                if required:
                    raise DecodingError("missing", name)
                continue
            try:
                values[name] = read_value(document[name])
            except DecodingError as error:
                raise error.inside(name) from None
        return cls(**values)

    return read


def _optional(read: Decode) -> Decode:
    return lambda value: None if value is None else read(value)


def _array(read: Decode) -> Decode:
    def read_array(value: Any) -> Any:
        if not isinstance(value, list):
            raise DecodingError("expected an array")
        return tuple(map(read, value))

    return read_array


def _mapping(read: Decode) -> Decode:
    def read_mapping(value: Any) -> Any:
        if not isinstance(value, dict):
            raise DecodingError("expected an object")
        return {name: read(member) for name, member in value.items()}

    return read_mapping


def _scalar(kind: type, name: str) -> Decode:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise DecodingError(f"expected {name}")
        return value

    return read


def _number(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise DecodingError("expected a number")
    return float(value)


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise DecodingError("expected a date and time") from None


def _any(value: Any) -> Any:
    return value


SCALARS: Mapping[Any, Decode] = {
    str: _scalar(str, "a string"),
    int: _scalar(int, "an integer"),
    bool: _scalar(bool, "true or false"),
    float: _number,
    datetime: _time,
    Any: _any,
}
