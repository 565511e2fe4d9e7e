"""The values that a setting accepts, in words, from the type and the bounds of its field."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def allowed(field: FieldInfo) -> str:
    """`a whole number, at least 1, at most 255`."""
    kind: Any = field.annotation
    bounds = [
        f"{words} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, words in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([KINDS.get(kind) or str(kind).replace("typing.", ""), *bounds])
