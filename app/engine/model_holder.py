"""Where the current model is. Whoever answers takes it once and keeps to it."""

from __future__ import annotations

from app.engine.errors import NotReadyError
from app.engine.serving_model import ServingModel
from models.sharding import DevicePlacement


class ModelHolder:
    """Holds the current model. Swapping it is one assignment: answers under way keep the model that they took.

    Args:
        placement: the devices of every model that is held.

    Attributes:
        model: the current model, None before the first one is loaded.
    """

    def __init__(self, placement: DevicePlacement) -> None:
        self.placement = placement
        self.model: ServingModel | None = None

    @property
    def current(self) -> ServingModel:
        """The current model. Raises NotReadyError before the first one is loaded."""
        if self.model is None:
            raise NotReadyError("no model has been loaded yet")
        return self.model

    @property
    def version(self) -> str | None:
        """The version of the current model, None before there is one."""
        return None if self.model is None else self.model.version
