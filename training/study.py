"""The fits of a search: what Optuna proposes, and what came of it; in a file if the search is to be resumed.

It knows neither models nor ratings.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from training.errors import ConfigError
from training.search_space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True, slots=True)
class Tried:
    """One complete fit: its number from 1, the settings searched, and the figure, in which less is better."""

    number: int
    settings: Mapping[str, Any]
    value: float


class Study:
    """A search of one space, which begins with the `start`.

    `identity` says what is searched on which ratings; a file of another identity is refused with ConfigError.
    """

    def __init__(self, space: Space, start: Mapping[str, Any], seed: int, identity: str, file: Path | None) -> None:
        self._space, self._start = space, dict(start)
        self._study = _opened(identity, file)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # of an interrupted search
            self._study.tell(trial.number, state=TrialState.FAIL)
            self._study.enqueue_trial(trial.params)
        trials = len(self._study.trials)
        self._study.sampler = _sampler(seed + trials)
        if trials == 0:
            self._study.enqueue_trial(self._start)
        self._trial: optuna.Trial | None = None

    def propose(self) -> dict[str, Any]:
        """The settings of the next fit."""
        self._trial = self._study.ask()
        return {name: values.suggest(name, self._trial) for name, values in self._space.items()}

    def tell(self, value: float | None) -> None:
        """What came of the fit that was proposed last; None if it failed."""
        if self._trial is not None:
            self._study.tell(self._trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)

    def tried(self) -> list[Tried]:
        """All complete fits, in order."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [
            Tried(number, self._ordered(trial), float(trial.value or 0)) for number, trial in enumerate(complete, 1)
        ]

    def best(self) -> Tried | None:
        """The fit with the least value, the first one among equal ones; None without a complete fit."""
        return min(self.tried(), key=lambda each: each.value, default=None)

    def start(self) -> Tried | None:
        """The fit of the start; None if it failed."""
        return next((each for each in self.tried() if each.settings == self._start), None)

    def _ordered(self, trial: FrozenTrial) -> dict[str, Any]:
        return {name: trial.params[name] for name in self._space}


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators of all settings together (Bergstra, Bardenet, Bengio and Kégl 2011)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def _opened(identity: str, file: Path | None) -> optuna.Study:
    if file is None:
        return optuna.create_study(storage=InMemoryStorage(), study_name=identity)
    try:
        _repair(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(file)))
        others = [study.study_name for study in optuna.get_all_study_summaries(storage)]
        if others and identity not in others:
            raise ConfigError(f"--resume {file}: it is of another search; name another file, or delete it")
        return optuna.create_study(storage=storage, study_name=identity, load_if_exists=True)
    except OSError as error:
        raise ConfigError(f"--resume {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:  # Optuna raises each of them
        raise ConfigError(f"--resume {file}: not a file of `tune`; name another file, or delete it") from error


def _repair(file: Path) -> None:
    """Cut off a last line that a killed process did not complete. Raises ValueError for a file of something else."""
    if not file.exists():
        return
    content = file.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if content and not complete.startswith(b'{"op_code":'):
        raise ValueError(file)
    if len(complete) < len(content):
        file.write_bytes(complete)
