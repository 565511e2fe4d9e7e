"""The events of the engine. It does not know who listens to them; metrics do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from app.engine.documents import LiveFigures
from app.engine.types import ListSource, Source
from models.checkpoint.manifest import DataRecord
from models.registry.split import Split


class Predicted(NamedTuple):
    """Predictions that were made, by source."""

    source: Source
    number: int


class Listed(NamedTuple):
    """Lists that were made, by source."""

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
    """A version that should be served but could not be loaded (None if CURRENT names none), and the kind of error."""

    version: str | None
    kind: str


class LoadFailureEnded(NamedTuple):
    """The version that could not be loaded was loaded after all, or need not be loaded any more."""


class LiveError(NamedTuple):
    """How far off the served version was for ratings that came in lately, of one source."""

    figures: LiveFigures


class SplitChanged(NamedTuple):
    """The split that is served from now on; None if there is none any more."""

    split: Split | None


Event: TypeAlias = LiveError | SplitChanged | Predicted | Listed | Batch | Loaded | LoadFailed | LoadFailureEnded
Listener: TypeAlias = Callable[[Event], None]
