"""The model being served, in a holder that can be swapped. Whoever answers takes one snapshot and keeps to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.engine.errors import NotReadyError
from app.engine.scorer import Scorer
from models import checkpoint
from models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Served:
    """One checkpoint, ready to answer from.

    Attributes:
        checkpoint: the model and what is known about its users and items.
        scorer: scores with its tables.
    """

    checkpoint: Checkpoint
    scorer: Scorer

    @classmethod
    def of(cls, loaded: Checkpoint) -> Self:
        shape = loaded.manifest.model
        return cls(loaded, Scorer(loaded.model, (shape.rating_min, shape.rating_max)))

    @property
    def version(self) -> str:
        return self.checkpoint.version

    @cached_property
    def popular_I(self) -> npt.NDArray[np.int32]:
        """Item rows by falling number of training ratings, equal ones by row."""
        return np.argsort(-self.checkpoint.ratings_I, kind="stable").astype(np.int32)

    def seen(self, user: int) -> Tensor:
        """Item rows of the user's training ratings."""
        return self.checkpoint.seen.of(user)


class Store:
    """Holds the current model. Swapping it is one assignment: answers under way keep the snapshot they took."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        self.directory = directory
        self.device = device
        self._served: Served | None = None

    @property
    def current(self) -> Served:
        """The model being served. Raises NotReadyError before the first one is loaded."""
        if self._served is None:
            raise NotReadyError("no model has been loaded yet")
        return self._served

    def load(self) -> None:
        """Load the version that CURRENT names and serve it. Raises CheckpointError, and keeps what it has."""
        self._served = Served.of(checkpoint.load(self.directory, device=self.device))
