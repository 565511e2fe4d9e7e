"""A bounded memory of what was computed with the current model. It does not know what that is."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from app.engine.serving_model import ServingModel

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values of one model that were put last. For one thread.

    Args:
        max_kept: the number of values; beyond, the one kept longest goes.
    """

    def __init__(self, max_kept: int) -> None:
        self._max_kept = max_kept
        self._model: ServingModel | None = None
        self._values: dict[Key, Value] = {}

    def get(self, model: ServingModel, key: Key) -> Value | None:
        """What is kept under a key. Values of another model are forgotten."""
        if self._model is not model:
            self._model, self._values = model, {}
        return self._values.get(key)

    def put(self, model: ServingModel, key: Key, value: Value) -> None:
        """Keep a value, unless another model has been asked for since."""
        if self._model is not model or self._max_kept == 0:
            return
        self._values.pop(key, None)
        if len(self._values) >= self._max_kept:
            del self._values[next(iter(self._values))]
        self._values[key] = value
