"""Saves the state of a fit, so that an interrupted fit resumes where it stopped.

It does not know what a trainer's state holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from training.constants import SAVE_SECONDS
from training.errors import ConfigError
from training.fit.loop import Epoch
from training.fit.trainer import Trainer

_locks: dict[Path, int] = {}  # the locks of this process, by their files; a repeated fit keeps its own


class FitState:
    """The saved state of a fit. This class saves nothing, for a fit without `--resume`."""

    def restore(self, trainer: Trainer[Any]) -> list[Epoch]:  # noqa: ARG002
        """Put `trainer` into the last saved state and return its history; empty if nothing was saved.

        Raises ConfigError if the saved state is not one of this fit.
        """
        return []

    def save(self, trainer: Trainer[Any], history: Sequence[Epoch]) -> None:
        """Save the state, unless it was saved a moment ago."""

    def delete(self) -> None:
        """Delete the saved state, because the fit is complete."""


@dataclass(slots=True)
class FitStateFile(FitState):
    """A file with the state, replaced by one rename, at most once in `every` seconds.

    `fit` identifies the fit: data, settings and seed. The file of another fit is refused, and so is one that another
    process is using: both would write it. A lock on a file beside it says so, and ends with the process.
    """

    file: Path
    fit: str
    every: float = SAVE_SECONDS
    _saved_at: float = field(default_factory=time.monotonic)

    def restore(self, trainer: Trainer[Any]) -> list[Epoch]:
        self._acquire()
        if not self.file.exists():
            return []
        if self.file.is_dir():
            raise ConfigError(
                f"{self.file} is a directory: a distributed fit saved it, and only torchrun can resume it"
            )
        try:
            with safe_open(self.file, "pt") as content:
                metadata = content.metadata() or {}
                state = {name: content.get_tensor(name).clone() for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{self.file} is not a saved fit: {error}") from error
        if metadata.get("fit") != self.fit:
            raise ConfigError(f"{self.file} is the state of another fit, with other data, settings or seed")
        trainer.restore({name: tensor.to(trainer.data.device) for name, tensor in state.items()})
        return [Epoch(**epoch) for epoch in json.loads(metadata["history"])]

    def save(self, trainer: Trainer[Any], history: Sequence[Epoch]) -> None:
        if time.monotonic() - self._saved_at < self.every:
            return
        part = self.file.with_name(f"{self.file.name}.part")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trainer.state().items()}
        save_file(tensors, part, {"fit": self.fit, "history": json.dumps([asdict(epoch) for epoch in history])})
        part.replace(self.file)
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        self.file.unlink(missing_ok=True)
        lock_file = self._lock_file
        if (lock := _locks.pop(lock_file, None)) is not None:
            lock_file.unlink(missing_ok=True)
            os.close(lock)

    @property
    def _lock_file(self) -> Path:
        return self.file.absolute().with_name(f"{self.file.name}.lock")

    def _acquire(self) -> None:
        if self._lock_file in _locks:
            return
        try:
            lock = os.open(self._lock_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"{self.file} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigError(f"{self.file}: another process is using it; name another file, or wait") from None
        _locks[self._lock_file] = lock
