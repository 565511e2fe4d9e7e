"""What a job is asked to do, and named presets: which trainer with which settings.

A preset is a TOML file with `description`, `trainer` and a table `[settings]`, checked by the trainer's settings type.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training import trainers
from training.errors import ConfigError
from training.trainer import Trainer, TrainerSettings

PRESETS = Path(__file__).parent / "presets"
DEFAULT_TOLERANCE = 0.01  # refits of one preset on ml-100k with other seeds differ by up to 0.6 %


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """What one run of the job is asked to do.

    Attributes:
        data, table, columns: the source of the ratings, as `training.data.dataset.load` takes them.
        test: a source whose ratings are the test part; `split` is then not used.
        split: one of `last-out`, `random:F`, `time:F`, `none`.
        preset, overrides: the trainer and its settings.
        user_attributes, item_attributes: files with side information, instead of what the data set brings.
        relevant: ratings at or above it count as relevant; None for three quarters up the scale.
        seed: fixes every random choice.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads, None for all cores.
        cache: where fetched data sets are kept.
        out: the checkpoint directory to publish to; None publishes nothing.
        tolerance: how much worse than the served model a published one may be, relative, of the RMSE.
        force: publish even what the quality gate refuses.
        resume: keeps the state of the fit; an interrupted one goes on from it. None keeps nothing.
    """

    data: str
    preset: str
    cache: Path
    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    test: str | None = None
    split: str = "none"
    overrides: Sequence[str] = ()
    user_attributes: Path | None = None
    item_attributes: Path | None = None
    relevant: float | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    out: Path | None = None
    tolerance: float = DEFAULT_TOLERANCE
    force: bool = False
    resume: Path | None = None

    @property
    def split_name(self) -> str:
        return self.split if self.test is None else f"test:{Path(self.test).name}"
