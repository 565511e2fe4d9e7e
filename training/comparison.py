"""Which of several presets and published versions predicts better, on the same held-out ratings.

Presets are fitted to the training part; versions answer as they are. Shapes: M models, N held-out ratings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.checkpoint.files import HELD_OUT_SCHEMA
from models.checkpoint.reader import read, read_held_out
from models.comparison import LEAST, paired, predictions
from models.registry.registry import local_version, open_registry
from training.config import JobConfig, Preset, load_preset
from training.constants import preset_names
from training.data.interactions import Interactions
from training.data.train_test import TrainTest
from training.data.train_test import read as read_ratings
from training.errors import ConfigError, DataError
from training.evaluation.evaluate import predict
from training.fit.fit_state import FitState
from training.fit.loop import Epoch
from training.fitting import Run, fit_models, prepare
from training.job import begin

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Version:
    """A published version: its name or path as it was given, and the registry of a name."""

    name: str
    registry: str | None


def compare(
    config: JobConfig,
    names: Sequence[str],
    checkpoints: str | None,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare each of the models with the first one. `config.preset` is not used.

    A name is that of a preset, a .toml file, a version in `checkpoints`, or the path or URL of a version. Ratings that
    one of the versions was fitted on are left out for all. Raises ConfigError or DataError for names or ratings that
    cannot be used, and CheckpointError for a version.
    """
    found = [contender(name, checkpoints) for name in names]
    given = [each for each in found if isinstance(each, Preset)]
    attributes = any(preset.trainer_class.uses_attributes for preset in given)
    ratings = read_ratings(replace(config, preset=" or ".join(names)), phase, with_attributes=attributes)
    held_out = ratings.held_out
    if held_out is None or len(held_out) < LEAST:
        raise DataError(f"{0 if held_out is None else len(held_out)} ratings are held out: at least {LEAST} are needed")
    predicted = []
    for each in found:
        if isinstance(each, Preset):
            run = begin(replace(config, preset=each.name), report, phase, preset=each)
            predicted.append(fitted_predictions(run, ratings))
        else:
            phase(f"predicting with {each.name}")
            predicted.append(version_predictions(each, held_out))
    facts = {"dataset": ratings.dataset.name, "split": config.split_name, "seed": config.seed}
    return facts | compared(names, [kind_of(each) for each in found], np.stack(predicted), held_out)


def contender(name: str, checkpoints: str | None) -> Preset | Version:
    """A preset without its relevance head, which the comparison does not use, or a version."""
    if name.endswith(".toml") or name in preset_names():
        return replace(load_preset(name), relevance=None)
    if "/" in name:
        return Version(name, None)
    if checkpoints is None:
        raise ConfigError(
            f"{name!r} is not one of the presets {', '.join(preset_names())}: if it is a published version, add "
            "--checkpoints DIR"
        )
    return Version(name, checkpoints)


def kind_of(found: Preset | Version) -> str:
    return "preset" if isinstance(found, Preset) else "version"


def fitted_predictions(run: Run, ratings: TrainTest) -> Floats:
    """What a preset that is fitted to the training part predicts for the test part, clipped, (N,)."""
    data = prepare(run, ratings)
    model = fit_models(run, data, None, FitState()).model
    if data.test is None:
        raise DataError("no ratings are held out")
    made: Floats = predict(model, data.test).clamp(*ratings.scale).cpu().double().numpy()
    return made


def version_predictions(version: Version, held_out: Interactions) -> Floats:
    """The same of a version; NaN for ratings that it was fitted on."""
    columns = [
        held_out.user_ids.take(pa.array(held_out.users_N)),
        held_out.item_ids.take(pa.array(held_out.items_N)),
        pa.array(held_out.ratings_N),
    ]
    table = pa.table(dict(zip(HELD_OUT_SCHEMA.names[:3], columns, strict=True)))
    opened = local_version(version.name) if version.registry is None else _named(version.registry, version.name)
    with opened as path:
        return predictions(read(path, "cpu"), table, read_held_out(path))


def _named(registry: str, name: str) -> Any:
    return open_registry(registry).local(None if name == "current" else name)


def compared(
    names: Sequence[str], kinds: Sequence[str], predicted_MN: Floats, held_out: Interactions
) -> dict[str, Any]:
    """The RMSE of each model, and how it compares with the first one, keyed as `--json` prints them."""
    new_N = np.isfinite(predicted_MN).all(0)
    if new_N.sum() < LEAST:
        raise DataError(
            f"only {new_N.sum()} of {len(held_out)} held-out ratings are new to {' and '.join(names)}: at least "
            f"{LEAST} are needed; give later ratings with --test FILE"
        )
    squared_MN = (predicted_MN[:, new_N] - held_out.ratings_N[new_N].astype(np.float64)) ** 2
    users_N = held_out.users_N[new_N]
    models: list[Mapping[str, Any]] = []
    for name, kind, squared_N in zip(names, kinds, squared_MN, strict=True):
        found = paired(np.stack([squared_N, squared_MN[0]]), users_N)
        verdict = {"difference": found.difference, "low": found.low, "high": found.high, "verdict": found.verdict}
        beside = verdict if models else dict.fromkeys(verdict)
        models.append({"model": name, "kind": kind, "rmse_clipped": found.rmse, **beside})
    return {"ratings": int(new_N.sum()), "users": len(np.unique(users_N)), "models": models}
