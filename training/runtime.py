"""The steps of a job that a single process does in one way and several processes in another.

`training.distributed.runtime` has the class for several processes; nothing here knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch

from models import devices
from models.checkpoint.writer import Draft
from models.registry.directory import publish
from training.communicator import SINGLE_PROCESS, Communicator
from training.config import JobConfig, Preset
from training.data import train_test
from training.data.train_test import TrainTest
from training.device import available_memory
from training.fit.fit_state import FitState, FitStateFile
from training.fit.trainer import TrainingSet
from training.results import Result, WholeModel


class Runtime:
    """The steps in a single process. With several processes, each makes the same calls in the same order."""

    communicator: Communicator = SINGLE_PROCESS
    training_set_class: ClassVar[type[TrainingSet]] = TrainingSet

    def choose_device(self, name: str) -> torch.device:
        """The device that `--device` names. Raises DeviceUnavailableError."""
        return devices.choose_device(name)

    def free_memory(self, device: torch.device) -> int:
        """Bytes that a fit in this process may take on the device."""
        return available_memory(device)

    def read(self, config: JobConfig, preset: Preset, phase: Callable[[str], None]) -> TrainTest:
        """The ratings that this process fits and evaluates on.

        Raises DataError or ConfigError for ratings, a split or options that cannot be used.
        """
        return train_test.read(config, phase, with_attributes=preset.trainer_class.uses_attributes)

    def training_set(self, ratings: TrainTest, device: torch.device) -> TrainingSet:
        """The training part as trainers take it."""
        train = ratings.train
        user_attributes_UA, item_attributes_IA = (
            None if values is None else torch.tensor(values, device=device)
            for values in (ratings.user_attributes_UA, ratings.item_attributes_IA)
        )
        return self.training_set_class(
            users=train.users,
            items=train.items,
            users_N=torch.tensor(train.users_N, device=device),  # copies: arrays that Arrow owns are read-only
            items_N=torch.tensor(train.items_N, device=device),
            ratings_N=torch.tensor(train.ratings_N, device=device),
            user_attributes_UA=user_attributes_UA,
            item_attributes_IA=item_attributes_IA,
            communicator=self.communicator,
            users_here=ratings.users_here,
        )

    def to_fit(self, preset: Preset, training: TrainingSet, ratings: TrainTest) -> TrainingSet:  # noqa: ARG002
        """The training part as the preset's trainer takes it. Several ranks may each get all ratings besides."""
        return training

    def saved_state(self, path: Path, fit: str, every: float) -> FitState:
        """The state of the fit that `fit` identifies, saved at `path` at most every so many seconds."""
        return FitStateFile(path, fit, every)

    def publish(self, out: Path, result: Result, draft: Callable[[WholeModel], Draft], *, activate: bool) -> str:
        """Publish the draft of the whole model, and return its version. Raises PublicationError."""
        return publish(out, draft(WholeModel.of(result)), activate=activate).version
