"""Holds the models that answer: the current one and, while there is a split, the one beside it.

Whoever answers takes one of them once, so no answer mixes two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from app.engine.errors import NotReadyError, VersionNotLoadedError
from app.engine.known_items import KnownItems
from app.engine.serving_model import ServingModel
from app.engine.types import Ids
from models.devices import DevicePlacement
from models.registry.split import Split


class Beside(NamedTuple):
    """The model that answers the users of a split."""

    model: ServingModel
    split: Split


class ModelHolder:
    """Holds the current model, None before the first one, and the one of a split. Swapping one is one assignment."""

    def __init__(self, placement: DevicePlacement) -> None:
        self.placement = placement
        self.model: ServingModel | None = None
        self.beside: Beside | None = None
        self.known_items = KnownItems.none()  # what a model is to show when it is swapped in

    @property
    def current(self) -> ServingModel:
        """The current model. Raises NotReadyError before the first one is loaded."""
        if self.model is None:
            raise NotReadyError("no model has been loaded yet")
        return self.model

    @property
    def loaded(self) -> list[ServingModel]:
        """All models that answer."""
        beside = [] if self.beside is None else [self.beside.model]
        return beside if self.model is None else [self.model, *beside]

    def of_user(self, user: str | None, version: str | None = None) -> ServingModel:
        """The model that answers a user: that of the split for those who are in it, else the current one.

        With `version` it is the one of that version. Raises VersionNotLoadedError if it is not loaded.
        """
        if self.beside is None and version is None:
            return self.current
        return self._chosen(() if user is None else (user,), version)

    def of_users(self, users: Ids, version: str | None = None) -> ServingModel:
        """The model that answers several users at once: that of the split if all are in it, else the current one."""
        if self.beside is None and version is None:
            return self.current
        return self._chosen(users.unique().to_pylist() if isinstance(users, pa.ChunkedArray) else users, version)

    def replace(self, model: ServingModel, view: ServingModel) -> bool:
        """Put a view in the place of a model, if that is still there; whether it was."""
        found = False
        if self.model is model:
            self.model, found = view, True
        if self.beside is not None and self.beside.model is model:
            self.beside, found = self.beside._replace(model=view), True
        return found

    def _chosen(self, users: Iterable[str], version: str | None) -> ServingModel:
        if version is not None:
            for model in self.loaded:
                if model.version == version:
                    return model
            there = " and ".join(model.version for model in self.loaded)
            raise VersionNotLoadedError(f"version {version!r} is not loaded; {there} can be asked")
        if self.beside is None:
            return self.current
        beside, last = self.beside, None
        for user in users:
            if user != last and not beside.split.has(user):
                return self.current
            last = user
        return self.current if last is None else beside.model
