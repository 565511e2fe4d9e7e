"""Named presets and overrides: which trainer with which settings. It does not know what the settings mean.

A preset is a TOML file with `description`, `trainer` and a table `[settings]`, checked by the trainer's settings type.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training import trainers
from training.errors import ConfigError
from training.trainer import Trainer, TrainerSettings

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """A trainer and its settings under a name."""

    name: str
    description: str
    trainer: str
    settings: TrainerSettings

    @property
    def trainer_class(self) -> type[Trainer[Any]]:
        return trainers.find(self.trainer)


def preset_names() -> list[str]:
    """Names of the presets that come with Ratecast."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_preset(name: str, overrides: Iterable[str] = ()) -> Preset:
    """The preset `name`, or the one in the file `name` where that ends in .toml, with `KEY=VALUE` overrides applied.

    Raises ConfigError, naming what there is, for an unknown preset, trainer or key, and for a value that does not fit.
    """
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    if path.parent == PRESETS and path.stem not in preset_names():
        raise ConfigError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        trainer, settings = str(content["trainer"]), dict(content.get("settings", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"preset {path}: {type(error).__name__}: {error}") from error
    settings |= dict(_parse_override(text) for text in overrides)
    return Preset(path.stem, str(content.get("description", "")), trainer, _checked(trainer, settings))


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r} is not KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _checked(trainer: str, settings: dict[str, Any]) -> TrainerSettings:
    settings_type = trainers.find(trainer).Settings
    try:
        return settings_type.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(settings_type.model_fields)
        raise ConfigError(f"setting {key}: {first['msg']}; trainer {trainer} has the settings {known}") from error
