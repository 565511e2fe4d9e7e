"""The configuration of a job, and presets: a trainer with its settings under a name.

A preset is a TOML file with `description`, `trainer`, a table `[settings]`, checked by the trainer's settings type, and
optionally a table `[relevance]` with the settings of a relevance head, and one `[tune]` that says what `tune` searches.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from models.did_you_mean import did_you_mean
from models.registry.remote import RemoteRegistry
from training.constants import DEFAULT_TOLERANCE, RELEVANCE, SAVE_SECONDS, preset_content, preset_file
from training.errors import ConfigError
from training.fit import trainers
from training.fit.relevance_settings import RelevanceSettings
from training.fit.trainer import Trainer, TrainerSettings
from training.options import NOTHING_KNOWN, SourceOptions
from training.search_space import Space, parse_space

SettingsT = TypeVar("SettingsT", bound=BaseModel)
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, slots=True)
class Preset:
    """A trainer and its settings under a name, those of the relevance head, None for no head, and what can be tuned."""

    name: str
    description: str
    trainer: str
    settings: TrainerSettings
    relevance: RelevanceSettings | None = None
    space: Space = field(default_factory=dict)

    @property
    def trainer_class(self) -> type[Trainer[Any]]:
        return trainers.find(self.trainer)

    def value(self, key: str) -> Any:
        """A setting by the name that `--set` takes. Raises ConfigError for one that does not exist."""
        owner = self.relevance if key.startswith(f"{RELEVANCE}.") else self.settings
        name = key.removeprefix(f"{RELEVANCE}.")
        if owner is None or name not in type(owner).model_fields:
            known = [*type(self.settings).model_fields]
            raise ConfigError(f"no setting {key} of {self.name}{did_you_mean(key, known)}")
        return getattr(owner, name)

    def changed(self, values: Mapping[str, Any]) -> Preset:
        """The preset with other values of some settings. Raises ConfigError for values that are not accepted."""
        head = {key: value for key, value in values.items() if key.startswith(f"{RELEVANCE}.")}
        own = self.settings.model_dump() | {key: value for key, value in values.items() if key not in head}
        settings = _checked(type(self.settings), own, f"trainer {self.trainer}")
        relevance = self.relevance
        if head and relevance is not None:
            changed = {key.removeprefix(f"{RELEVANCE}."): value for key, value in head.items()}
            whole = relevance.model_dump() | changed
            relevance = _checked(RelevanceSettings, whole, "the relevance head", f"{RELEVANCE}.")
        return replace(self, settings=settings, relevance=relevance)


def load_preset(name: str, overrides: Iterable[str] = ()) -> Preset:
    """The preset `name`, or the one in the file `name` if that ends in .toml, with `KEY=VALUE` overrides applied.

    Raises ConfigError for an unknown preset, trainer or key, naming those that exist, and for an invalid value.
    """
    path = preset_file(name)
    try:
        content = preset_content(name)
        trainer, settings = str(content["trainer"]), dict(content.get("settings", {}))
        head = dict(content[RELEVANCE]) if RELEVANCE in content else None
        space = content.get("tune", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"preset {path}: {type(error).__name__}: {error}") from error
    for key, value in map(parse_override, overrides):
        if key.partition(".")[0] == RELEVANCE:
            head = _overridden(head, key, value)
        else:
            settings[key] = value
    checked = _checked(trainers.find(trainer).Settings, settings, f"trainer {trainer}")
    relevance = None if head is None else _checked(RelevanceSettings, head, "the relevance head", f"{RELEVANCE}.")
    description = str(content.get("description", ""))
    return Preset(path.stem, description, trainer, checked, relevance, parse_space(space, f"preset {path}, table tune"))


def _overridden(head: dict[str, Any] | None, key: str, value: Any) -> dict[str, Any] | None:
    """The settings of the head after `relevance=true`, `relevance=false` or `relevance.KEY=VALUE`."""
    if key != RELEVANCE:
        return (head or {}) | {key.removeprefix(f"{RELEVANCE}."): value}
    if not isinstance(value, bool):
        raise ConfigError(f"setting {RELEVANCE}: must be true or false; use {RELEVANCE}.KEY=VALUE for its own settings")
    return (head or {}) if value else None


def parse_override(text: str, option: str = "--set") -> tuple[str, Any]:
    """The key and the value, as TOML reads it, else as a text, of `KEY=VALUE`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{option} {text!r} is not KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _checked(settings_type: type[SettingsT], settings: dict[str, Any], owner: str, prefix: str = "") -> SettingsT:
    try:
        return settings_type.model_validate(settings)
    except ValidationError as error:
        key = str(error.errors(include_url=False)[0]["loc"][0])
        known = settings_type.model_fields
        if key not in known:
            hint = did_you_mean(key, known)
            raise ConfigError(f"no setting {prefix}{key}; {owner} has the settings {', '.join(known)}{hint}") from error
        wanted = allowed(known[key])
        raise ConfigError(f"setting {prefix}{key}: must be {wanted}, not {settings[key]}") from error


def allowed(field: FieldInfo) -> str:
    """The values that a setting accepts, in words: `a whole number, at least 1, at most 255`."""
    kind: Any = field.annotation
    bounds = [
        f"{words} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, words in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    choices = " or ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else ""
    return ", ".join([KINDS.get(kind) or choices or str(kind).replace("typing.", ""), *bounds])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """The configuration of one run of the job.

    Attributes:
        data, options: the sources of the ratings, as `training.data.dataset.load` takes them.
        store: URL of the ratings store whose deleted users are left out of other sources; None for none.
        test: a source whose ratings are the test part; `split` is then not used.
        folds: parts of a cross-validation, each of which is the test part once; `split` and `test` are then not used.
        replay: also measure what the service would have answered for the test part, in the order of time.
        items, item_columns: a catalogue of the items, in place of that of the data set, and the names of its columns.
        user_attributes, item_attributes: files with side information, in place of that of the data set.
        half_life: days after which a rating counts half as much; None for ratings that all count alike.
        relevant: ratings at or above it count as relevant; None for three quarters up the scale.
        out, remote: the checkpoint directory to publish to, None to publish nothing, and the registry that the version
            is copied to from there, None for none.
        tolerance: how much higher the RMSE may be than that of the served model, as a share of it.
        force: publish a model even if the quality gate refuses it, or if it is not measured and the served one was.
        resume: where the state of the fit is saved, and an interrupted fit resumes from: a file, or under torchrun a
            directory. None saves nothing.
        save_every: minimum seconds between two saves of the state.
        warm_start: start from the current checkpoint in `out`, if there is one and the trainer can.
        refit: after the model has passed the gate, publish one that is fitted to all ratings.
    """

    data: Sequence[str]
    preset: str
    cache: Path
    options: SourceOptions = NOTHING_KNOWN
    store: str | None = None
    test: str | None = None
    split: str = "none"
    folds: int | None = None
    replay: bool = False
    overrides: Sequence[str] = ()
    items: str | None = None
    item_columns: Mapping[str, str] = field(default_factory=dict)
    user_attributes: str | None = None
    item_attributes: str | None = None
    half_life: float | None = None
    relevant: float | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    out: Path | None = None
    remote: RemoteRegistry | None = None
    tolerance: float = DEFAULT_TOLERANCE
    force: bool = False
    activate: bool = True
    resume: Path | None = None
    save_every: float = SAVE_SECONDS
    warm_start: bool = False
    refit: bool = False

    @property
    def split_name(self) -> str:
        if self.folds is not None:
            return f"folds:{self.folds}"
        return self.split if self.test is None else f"test:{Path(self.test).name}"
