"""The trainers, one algorithm per file; the name of the file is the name of the trainer."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from training.errors import ConfigError
from training.fit.trainer import Trainer


def names() -> list[str]:
    """The names of all trainers."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Trainer[Any]]:
    """The trainer in the file `name`.py. Raises ConfigError if there is none."""
    if name not in names():
        raise ConfigError(f"no trainer {name!r}; there are {', '.join(names())}")
    module = import_module(f"{__name__}.{name}")
    own = [member for member in vars(module).values() if getattr(member, "__module__", "") == module.__name__]
    (trainer,) = (member for member in own if isinstance(member, type) and issubclass(member, Trainer))
    return trainer
