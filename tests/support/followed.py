"""Changes that every worker must follow in time: which states may an answer show?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

FOLLOWED = 1.0  # seconds after which every worker must show a change


@dataclass
class Change(Generic[T]):
    """A state, when the request that led to it was sent, and when it was acknowledged; by default it always was."""

    state: T
    begun: float = -math.inf
    acknowledged: float = -math.inf


def allowed(changes: Sequence[Change[T]], sent: float, received: float) -> Iterator[T]:
    """The states that an answer may show, of a request that was sent and answered at these times."""
    for change, later in zip(changes, [*changes[1:], None], strict=True):
        if change.begun <= received and (later is None or later.acknowledged + FOLLOWED > sent):
            yield change.state
