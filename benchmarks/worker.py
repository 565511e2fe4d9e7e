"""What a program that fits models for `accuracy.py` needs: the task it is given, the model it hands back, its clock.

It runs under any interpreter with numpy, so that libraries whose pins clash with ours can be measured. It never sees a
test rating. A program with models calls `serve`, and is then run as

    PROGRAM list                     one JSON object a line: the facts of each model; version is null if not installed
    PROGRAM run NAME FOLDER TASK…    fits NAME to each TASK (.npz) and writes FOLDER/<stem of TASK>.npz

Shapes: N training ratings, M test pairs, U users, I items, F factors, K list length.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LIST_LENGTH = 10
WARM_UP_RATINGS = 2000
CELLS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Task:
    """One training part and the pairs to predict. The index past the last user (item) stands for an unknown one.

    Attributes:
        users, items: U and I; each occurs in the training part.
        users_N, items_N: int32.
        ratings_N: float32.
        timestamps_N: seconds since 1970, int64; None where the data has none.
        test_users_M, test_items_M: the pairs to predict, int32.
        seed: of everything random in the fit.
        threads: how many to use.
        device: for libraries that can choose.
        user_attributes_UA, item_attributes_IA: side information, float32; None unless it was asked for.
        trial_N: which training ratings a trial of ours holds out, bool; None for some at random.
    """

    users: int
    items: int
    users_N: Array
    items_N: Array
    ratings_N: Array
    timestamps_N: Array | None
    test_users_M: Array
    test_items_M: Array
    seed: int
    threads: int
    device: str
    user_attributes_UA: Array | None = None
    item_attributes_IA: Array | None = None
    trial_N: Array | None = None

    @classmethod
    def read(cls, path: Path) -> Task:
        with np.load(path) as file:
            columns = {name: file[name] if file[name].ndim else file[name].item() for name in file.files}
        return cls(**({"timestamps_N": None} | columns))

    def sample(self, ratings: int) -> Task:
        """The first ratings alone, with the users and items that occur in them."""
        kept_users, users_N = np.unique(self.users_N[:ratings], return_inverse=True)
        kept_items, items_N = np.unique(self.items_N[:ratings], return_inverse=True)
        return replace(
            self,
            users=len(kept_users),
            items=len(kept_items),
            users_N=users_N.astype(np.int32),
            items_N=items_N.astype(np.int32),
            ratings_N=self.ratings_N[:ratings],
            timestamps_N=None if self.timestamps_N is None else self.timestamps_N[:ratings],
            trial_N=None if self.trial_N is None else self.trial_N[:ratings],
            user_attributes_UA=None if self.user_attributes_UA is None else self.user_attributes_UA[kept_users],
            item_attributes_IA=None if self.item_attributes_IA is None else self.item_attributes_IA[kept_items],
        )


@dataclass(frozen=True)
class Bilinear:
    """μ + b_u + b_i + p_u·q_i, with a last row for unknown users (items): every model measured here has this form."""

    mean: float
    user_bias: Array
    item_bias: Array
    user_factors: Array
    item_factors: Array

    @classmethod
    def of_rated(
        cls, task: Task, mean: float, user_bias: Array, item_bias: Array, user_factors: Array, item_factors: Array
    ) -> Bilinear:
        """Tables of U and I rows get their average over the training ratings as the row for unknown ids."""
        users = np.bincount(task.users_N, minlength=task.users) / len(task.users_N)
        items = np.bincount(task.items_N, minlength=task.items) / len(task.items_N)
        tables = ((user_bias, users), (item_bias, items), (user_factors, users), (item_factors, items))
        return cls(float(mean), *(_with_average(np.asarray(table, np.float32), weights) for table, weights in tables))

    def pairs(self, users_M: Array, items_M: Array) -> Array:
        """Unclipped predictions, float64, (M,)."""
        predicted_M = self.mean + self.user_bias[users_M].astype(np.float64) + self.item_bias[items_M]
        size = max(1, CELLS_AT_ONCE // max(1, self.user_factors.shape[1]))
        for begin in range(0, len(users_M), size):
            rows = slice(begin, begin + size)
            p, q = self.user_factors[users_M[rows]], self.item_factors[items_M[rows]]
            predicted_M[rows] += np.einsum("mf,mf->m", p, q)
        return predicted_M

    def lists(self, task: Task) -> Array:
        """The best unseen items of every known user, best first, equal scores by item index; int32, (U, K)."""
        lists_UK = np.empty((task.users, LIST_LENGTH), np.int32)
        by_user = np.argsort(task.users_N, kind="stable")
        users_N, items_N = task.users_N[by_user], task.items_N[by_user]
        size = max(1, CELLS_AT_ONCE // task.items)
        for begin in range(0, task.users, size):
            end = min(begin + size, task.users)
            scores = self.item_bias[:-1] + self.user_factors[begin:end] @ self.item_factors[:-1].T
            seen = slice(*np.searchsorted(users_N, (begin, end)))
            scores[users_N[seen] - begin, items_N[seen]] = -np.inf
            lists_UK[begin:end] = np.argsort(-scores, axis=1, kind="stable")[:, :LIST_LENGTH]
        return lists_UK


class Watch:
    """Times what is done inside `with watch:`, and notes the peak memory of this process at its end."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_mb = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._began
        self.peak_mb = peak_memory_mb()


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Attributes:
        title: library, algorithm and settings.
        package: the distribution it comes in, None where it needs none.
        fit: fits a task, holding the watch while it does.
        rates: whether its scores are ratings; a model that only ranks has no RMSE.
        warm_up: whether a small fit goes before, so that imports and compilation are not timed.
        most_ratings: it is not fitted to more, None for any number.
    """

    title: str
    package: str | None
    fit: Callable[[Task, Watch], Bilinear]
    rates: bool = True
    warm_up: bool = True
    most_ratings: int | None = None


def serve(models: Mapping[str, Model]) -> None:
    """The command line of a program with models."""
    match sys.argv[1:]:
        case [] | ["list"]:
            for name, model in models.items():
                facts = {"title": model.title, "package": model.package, "most_ratings": model.most_ratings}
                print(json.dumps({"name": name, **facts, "version": _version(model.package)}))
        case ["run", name, folder, *tasks]:
            run(models[name], Path(folder), [Path(task) for task in tasks])
        case _:
            sys.exit(__doc__)


def run(model: Model, folder: Path, tasks: list[Path]) -> None:
    """Fit each task and write what was predicted."""
    if model.warm_up:
        with contextlib.suppress(Exception):  # some cannot fit so few ratings
            model.fit(Task.read(tasks[0]).sample(WARM_UP_RATINGS), Watch())
    for path in tasks:
        task, watch = Task.read(path), Watch()
        fitted = model.fit(task, watch)
        predicted_M = fitted.pairs(task.test_users_M, task.test_items_M)
        np.savez(
            folder / path.name,
            predicted_M=predicted_M if model.rates else np.full_like(predicted_M, np.nan),
            lists_UK=fitted.lists(task),
            seconds=watch.seconds,
            peak_mb=watch.peak_mb,
        )


def peak_memory_mb() -> float:
    """The most memory this process has held. The kernel's own figure where there is one: `getrusage` counts what the
    parent process held when it started this one."""
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def _version(package: str | None) -> str | None:
    try:
        return "" if package is None else importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _with_average(table: Array, weights: Array) -> Array:
    return np.concatenate([table, np.tensordot(weights, table, axes=1)[None]]).astype(np.float32)
