"""What the engine tells those who listen. It does not know who they are; metrics are one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from app.engine.documents import LiveFigures
from app.engine.types import ListSource, Source
from models.checkpoint.manifest import DataRecord


class Predicted(NamedTuple):
    """Predictions that were made, and what they rest on."""

    source: Source
    number: int


class Listed(NamedTuple):
    """Lists that were made, and what they rest on."""

    source: ListSource
    number: int


class Batch(NamedTuple):
    """A batch that was computed on the engine's thread."""

    kind: str  # `predictions` or `lists`
    rows: int  # pairs, or users of lists
    queue_seconds: Sequence[float]  # how long each of its jobs waited
    compute_seconds: float  # from hand-over to answer
    waiting_rows: int  # what was waiting when it ended


class Loaded(NamedTuple):
    """A model that is being served from now on."""

    version: str
    created_at: datetime
    data: DataRecord


class LoadFailed(NamedTuple):
    """A version that is wanted and could not be loaded, None where CURRENT names none, and the kind of error."""

    version: str | None
    kind: str


class LoadFailureEnded(NamedTuple):
    """The version that could not be loaded is no longer wanted, or was loaded after all."""


class LiveError(NamedTuple):
    """How far off the served version was for ratings that came in lately, of one source."""

    figures: LiveFigures


Event: TypeAlias = LiveError | Predicted | Listed | Batch | Loaded | LoadFailed | LoadFailureEnded
Listener: TypeAlias = Callable[[Event], None]
