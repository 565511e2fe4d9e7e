"""From JSON documents to the classes of `answers`, by the types of their fields. Knows neither HTTP nor any one class.

What is unknown is passed over, so that a newer service can be asked; what is missing or of another type is an error
that names the field.
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


class MismatchError(ValueError):
    """A document that is not what is wanted. `path` leads to the place."""

    def __init__(self, wanted: str, *path: str) -> None:
        super().__init__(wanted, *path)
        self.wanted = wanted
        self.path = path

    def __str__(self) -> str:
        return f"{'.'.join(self.path) or 'the answer'}: {self.wanted} is wanted"

    def inside(self, name: str) -> MismatchError:
        """The same, seen from one level further out."""
        return MismatchError(self.wanted, name, *self.path)


def decode(wanted: type[T], document: Any) -> T:
    """The document as an object of the class. Raises MismatchError."""
    found: T = decoder(cast("Any", wanted))(document)
    return found


@cache
def decoder(wanted: Any) -> Decode:
    """A function that reads values of one type."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if dataclasses.is_dataclass(wanted):
        return _object(wanted)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _optional(decoder(inner))
    if origin is tuple:
        return _array(decoder(arguments[0]))
    if origin is Mapping:
        return _mapping(decoder(arguments[1]))
    return SCALARS[str if origin is Literal else wanted]


def _object(wanted: Any) -> Decode:
    hints = get_type_hints(wanted)
    fields = [
        (field.name, decoder(hints[field.name]), field.default is dataclasses.MISSING)
        for field in dataclasses.fields(wanted)
    ]

    def read(document: Any) -> Any:
        if not isinstance(document, dict):
            raise MismatchError("an object")
        values = {}
        for name, read_value, required in fields:
            if name not in document:
                if required:
                    raise MismatchError("a value", name)
                continue
            try:
                values[name] = read_value(document[name])
            except MismatchError as error:
                raise error.inside(name) from None
        return wanted(**values)

    return read


def _optional(read: Decode) -> Decode:
    return lambda value: None if value is None else read(value)


def _array(read: Decode) -> Decode:
    def read_array(value: Any) -> Any:
        if not isinstance(value, list):
            raise MismatchError("an array")
        return tuple(map(read, value))

    return read_array


def _mapping(read: Decode) -> Decode:
    def read_mapping(value: Any) -> Any:
        if not isinstance(value, dict):
            raise MismatchError("an object")
        return {name: read(member) for name, member in value.items()}

    return read_mapping


def _scalar(kind: type, name: str) -> Decode:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise MismatchError(name)
        return value

    return read


def _number(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise MismatchError("a number")
    return float(value)


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise MismatchError("a date and time") from None


def _any(value: Any) -> Any:
    return value


SCALARS: Mapping[Any, Decode] = {
    str: _scalar(str, "a text"),
    int: _scalar(int, "an integer"),
    bool: _scalar(bool, "true or false"),
    float: _number,
    datetime: _time,
    Any: _any,
}
