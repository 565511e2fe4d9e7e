"""A bounded search for the settings of a preset, each tried by a fit to a part of the training ratings.

What the job holds out by its split takes no part in the search: it measures the result.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.config import JobConfig, Preset, load_preset, parse_override
from training.constants import RELEVANCE
from training.data.split import Split, parse_split
from training.data.train_test import TrainTest
from training.errors import ConfigError, DataError, DivergedError
from training.fit.loop import Epoch
from training.fitting import Run
from training.job import begin, fit_and_measure
from training.preset_file import check_writable, write_preset
from training.search_space import Space, parse_space
from training.study import Study, Tried

log = logging.getLogger(__name__)

LEAST = 100  # held-out ratings; fewer choose by chance
INNER = "random:0.1"
Aim = Literal["rmse", "ndcg10"]
TITLES: Mapping[Aim, str] = {"rmse": "RMSE", "ndcg10": "NDCG@10"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched, and for how long.

    Attributes:
        out: the preset file to write.
        aim: the figure to improve. The rating model is all that changes `rmse`; the relevance head, where there is
            one, all that changes `ndcg10`.
        fits, seconds: the search ends after so many fits, those of an earlier run among them, or so long.
        values: KEY=VALUES texts, in place of the preset's table `[tune]`.
        inner: the split that holds out the ratings to choose by; None for the kind of the job's split.
        resume: where the search is saved, and goes on from.
    """

    out: Path
    aim: Aim = "rmse"
    fits: int | None = None
    seconds: float | None = None
    values: Sequence[str] = ()
    inner: str | None = None
    resume: Path | None = None


class _TimeIsUp(Exception):  # noqa: N818 - it is no error
    """The time of the search is over in the middle of a fit, after this epoch."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch


def tune(
    config: JobConfig,
    search: Search,
    report: Callable[[Epoch], None],
    phase: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Search, write the best settings as a preset, and return the figures, keyed as `--json` prints them.

    Raises a TrainingError for what cannot be searched, for ratings or a budget that are too few, and for a file that
    cannot be written. Whenever a fit is the best so far, the file is written.
    """
    check_writable(search.out)
    preset = searched(load_preset(config.preset, config.overrides), search, fixed(config))
    run = begin(config, report, phase, preset=preset)
    ratings = run.runtime.read(config, preset, phase)
    kind = parse_split(search.inner or (INNER if config.test or config.split == "none" else config.split))
    inner = ratings.inner(kind, np.random.default_rng([config.seed, 3]))
    if len(inner.test) < LEAST:
        raise DataError(f"{len(inner.test)} ratings are held out to choose settings by: at least {LEAST} are needed")
    start = {key: preset.value(key) for key in preset.space}
    study = Study(preset.space, start, config.seed, identity(config, search, preset, ratings, kind), search.resume)
    best = _Fits(run, search, inner, kind, study).all()
    write_best(run, search, study, best)
    return _figures(run, search, kind, ratings, study, best)


def fixed(config: JobConfig) -> set[str]:
    """The settings that the user has chosen."""
    return {parse_override(text)[0] for text in config.overrides}


def searched(preset: Preset, search: Search, fixed: set[str]) -> Preset:
    """The preset with the space of this search: what changes the aim, and is not fixed. Raises ConfigError."""
    space = preset.space
    if search.values:
        space = parse_space(dict(parse_override(text, "--search") for text in search.values), "--search")
    elif not space:
        raise ConfigError(f"the preset {preset.name} has no table [tune] of what to search: use --search KEY=VALUES")
    of_head = search.aim == "ndcg10" and preset.relevance is not None
    chosen: Space = {
        key: values.including(preset.value(key))
        for key, values in space.items()
        if key.startswith(f"{RELEVANCE}.") == of_head and key not in fixed
    }
    if not chosen:
        what = "relevance.KEY" if of_head else "KEY"
        raise ConfigError(f"nothing to search that changes {search.aim}: use --search {what}=VALUES")
    for key, values in chosen.items():
        for value in values.ends():
            preset.changed({key: value})
    return replace(preset, space=chosen)


def identity(config: JobConfig, search: Search, preset: Preset, ratings: TrainTest, kind: Split) -> str:
    """What must be the same for a search to go on."""
    facts = (
        ratings.dataset.fingerprint,
        config.split_name,
        str(kind),
        config.seed,
        search.aim,
        config.relevant,
        config.half_life,
        preset,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class _Fits:
    """The loop of a search."""

    def __init__(self, run: Run, search: Search, inner: TrainTest, kind: Split, study: Study) -> None:
        self._run, self._search, self._inner, self._study = run, search, inner, study
        self._earlier = len(study.tried())
        inside = replace(run.config, split=str(kind), test=None)
        self._quiet = replace(run, config=inside, report=self._report, phase=lambda _: None)
        self._began = time.monotonic()
        self._failed: Exception | None = None

    def all(self) -> Tried:
        """Fit until the budget is spent, and return the best. Raises ConfigError if not a single fit was complete."""
        attempts = self._earlier
        while not self._is_over(attempts):
            try:
                self._one(attempts + 1)
            except _TimeIsUp as end:
                self._study.tell(None)
                self._check(end.epoch)
                log.info("the time is over: the last fit was not completed")
                break
            attempts += 1
        best = self._study.best()
        if best is None:
            raise ConfigError(f"none of {attempts - self._earlier} fits could be completed: {self._failed}")
        return best

    def _is_over(self, attempts: int) -> bool:
        fits, seconds = self._search.fits, self._search.seconds
        late = seconds is not None and attempts > self._earlier and self._spent() >= seconds
        return late or (fits is not None and attempts >= fits)

    def _spent(self) -> float:
        return time.monotonic() - self._began

    def _one(self, number: int) -> None:
        values, aim = self._study.propose(), self._search.aim
        total = "" if self._search.fits is None else f" of {self._search.fits}"
        self._run.phase(f"fit {number}{total}: {_said(values)}")
        before = self._study.best()
        try:
            found = measured(self._quiet, self._inner, values, aim)
        except (ConfigError, DivergedError) as error:
            log.warning("fit %d failed: %s", number, error)
            self._failed = error
            self._study.tell(None)
            return
        self._study.tell(found if aim == "rmse" else -found)
        best = self._study.best()
        if best is not None and best != before:
            write_best(self._run, self._search, self._study, best)
        shown = found if best is None else abs(best.value)
        log.info("fit %d: %s %.4f; best %.4f%s", number, TITLES[aim], found, shown, self._left(number))

    def _left(self, number: int) -> str:
        spent, fits, seconds = self._spent(), self._search.fits, self._search.seconds
        by_fits = math.inf if fits is None else spent / (number - self._earlier) * (fits - number)
        left = min(by_fits, math.inf if seconds is None else max(seconds - spent, 0.0))
        return f"; about {left:,.0f} s left"

    def _report(self, epoch: Epoch) -> None:
        self._run.report(epoch)
        is_last = epoch.number == epoch.epochs
        if self._search.seconds is not None and self._spent() >= self._search.seconds and not is_last:
            raise _TimeIsUp(epoch)

    def _check(self, epoch: Epoch) -> None:
        if self._study.best() is None:
            needed = self._spent() + epoch.seconds_left
            raise ConfigError(
                f"{self._search.seconds:g} s are too short for one fit, which takes at least {needed:,.0f} s: give "
                "more time, or fewer ratings"
            )


def measured(run: Run, ratings: TrainTest, values: Mapping[str, Any], aim: Aim) -> float:
    """The figure of the preset with other values. What does not change it is fitted quickly, or not at all."""
    preset = run.preset.changed(values)
    if aim == "rmse":
        preset = replace(preset, relevance=None)
    elif preset.relevance is not None:
        preset = replace(load_preset("bias"), relevance=preset.relevance)
        run = replace(run, config=replace(run.config, half_life=None))
    figure = fit_and_measure(replace(run, preset=preset), ratings).metrics[aim]
    if figure is None:
        raise DataError("no user has a relevant held-out rating to choose settings by: see --relevant")
    return figure


def write_best(run: Run, search: Search, study: Study, best: Tried) -> None:
    """Write the best settings so far as a preset."""
    config, preset, start = run.config, run.preset, study.start()
    source = " ".join(" and ".join(config.data).split())
    described = replace(
        preset.changed(best.settings),
        description=f"{preset.name}, tuned on {source}",
        space=load_preset(config.preset).space or preset.space,
    )
    fits = len(study.tried())
    remarks = [
        f"the best of {fits} fits of {preset.name} to {source}, split {config.split_name}, seed {config.seed}.",
        f"{TITLES[search.aim]} on the ratings it was chosen by: {abs(best.value):.4f}"
        + ("." if start is None else f", of {preset.name} itself {abs(start.value):.4f}."),
    ]
    write_preset(search.out, described, remarks)


def _figures(run: Run, search: Search, kind: Split, ratings: TrainTest, study: Study, best: Tried) -> dict[str, Any]:
    tried, config, start = study.tried(), run.config, study.start()
    return {
        "dataset": ratings.dataset.name,
        "split": config.split_name,
        "inner_split": str(kind),
        "preset": run.preset.name,
        "seed": config.seed,
        "aim": search.aim,
        "fits": len(tried),
        "start": None if start is None else abs(start.value),
        "best": abs(best.value),
        "best_fit": best.number,
        "settings": [
            {"name": key, "start": run.preset.value(key), "best": value} for key, value in best.settings.items()
        ],
        "test": _tested(run, search, ratings, best),
        "file": str(search.out),
        "tried": [{"fit": each.number, "value": abs(each.value), "settings": dict(each.settings)} for each in tried],
    }


def _tested(run: Run, search: Search, ratings: TrainTest, best: Tried) -> dict[str, float] | None:
    """The figure of the preset itself and of the best settings on what the search did not see; None without any."""
    if len(ratings.test) == 0:
        return None
    run.phase("measuring the best settings on the held-out ratings")
    return {
        name: measured(run, ratings, values, search.aim) for name, values in (("start", {}), ("best", best.settings))
    }


def _said(values: Mapping[str, Any]) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )
