"""Several ranks for a test: torchrun with this module, or the command line of training, as its program.

As a program, `python -m tests.support.ranks JOB FOLDER`, a rank does one of `JOBS` and leaves in the folder what it
found.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support import ROOT

SETTINGS = {"factors": 7}
ONE_VARIANT = {"effects": "yes", "heavy_tails": "yes"}


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def torchrun(ranks: int, *arguments: object, options: tuple[str, ...] = ("--standalone",)) -> list[str]:
    """The command that runs a module on so many ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node", str(ranks)]
    return [*launcher, "-m", *map(str, arguments)]


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with what it prints as one stream of lines; it and its children are gone at the end."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run(ranks: int, *arguments: object) -> tuple[int, str]:
    """Exit code and output of a module on so many ranks."""
    done = subprocess.run(
        torchrun(ranks, *arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def found(job: str, folder: Path, ranks: int) -> list[Any]:
    """What each of so many ranks found in a job."""
    code, output = run(ranks, __name__, job, folder)
    assert code == 0, output
    return [pickle.loads((folder / f"{job}-{ranks}-{rank}").read_bytes()) for rank in range(ranks)]  # noqa: S301


def job_config(folder: Path, name: str, split: str, seed: int = 3) -> Any:
    """The configuration of a job that reads `name` in a folder."""
    from training.config import JobConfig

    return JobConfig(data=[str(folder / name)], preset="als", cache=folder, split=split, seed=seed)


def read_in_parts(group: Any, folder: Path) -> Any:
    """What a rank has of the ratings in `parts`, for every split."""
    from training.distributed.reading import read_share

    result = {}
    for split in ("none", "random:0.1", "time:0.2", "last-out"):
        mine = read_share(job_config(folder, "parts", split), group)
        columns = [
            (part.users_N, part.items_N, part.ratings_N, part.timestamps_N, part.user_ids.to_pylist())
            for part in (mine.train, mine.test)
        ]
        facts = (mine.users_here.bounds, mine.dataset.duplicates, mine.dataset.fingerprint)
        result[split] = (*facts, columns, mine.train.item_ids.to_pylist())
    return result


def everything(group: Any, folder: Path) -> Any:
    """All ratings, as each rank has them where the ranks share the chains, of one file and of parts.

    Those above 3 are what a trial holds out.
    """
    from dataclasses import replace

    from training.config import load_preset
    from training.distributed.reading import read_share
    from training.distributed.runtime import DistributedRuntime

    runtime, result = DistributedRuntime(group), []
    for name in ("whole.csv", "parts"):
        share = read_share(job_config(folder, name, "random:0.1"), group)
        data = runtime.training_set(share, torch.device("cpu"))
        data = replace(data, trial_N=data.ratings_N > 3)
        whole = runtime.to_fit(load_preset("bayes"), data, share).everything
        assert whole is not None
        result.append((whole.users, whole.items, whole.users_N, whole.items_N, whole.ratings_N, whole.trial_N))
    return result


def fit_without_room(group: Any, folder: Path) -> Any:
    """What a rank logs of a job whose ratings fit the ranks together, and not one of them."""
    from dataclasses import replace

    from training import job
    from training.config import load_preset
    from training.distributed.runtime import DistributedRuntime

    class Narrow(DistributedRuntime):
        def free_memory(self, _: torch.device) -> int:
            preset = load_preset("bayes", config.overrides)
            return preset.trainer_class.memory_bytes(290, 150, 5000, preset.settings)

    overrides = ("factors=7", "trial=0", "burn_in=1", "samples=2", "relevance=false")
    config = replace(job_config(folder, "parts", "random:0.1"), preset="bayes", overrides=overrides)
    said = _Said()
    logging.getLogger("training").addHandler(said)
    logging.getLogger("training").setLevel(logging.INFO)
    outcome = job.run(replace(config, out=folder / "narrow", force=True), lambda _: None, runtime=Narrow(group))
    return said.lines, outcome.figures["rmse"], outcome.figures["bias_rmse"]


class _Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def fit_als(group: Any, folder: Path) -> Any:
    """The tables of `als`, and bytes sent in a sweep: with all items' rows on each rank, and in blocks of few bytes."""
    return [_fitted(group, folder, "als", item_bytes, sweeps=4) for item_bytes in (1 << 30, 3_000)]


def fit_bayes(group: Any, folder: Path) -> Any:
    """The tables of `bayes` after four sweeps; those of two are saved for others to go on from."""
    return _fitted(group, folder, "bayes", 1 << 30, chains=1, burn_in=1, samples=3, rank=4, **ONE_VARIANT)


def resume_bayes(group: Any, folder: Path) -> Any:
    """The tables of `bayes` after four sweeps, of which the first two were done by others."""
    return _fitted(group, folder, "bayes", 1 << 30, chains=1, burn_in=1, samples=3, rank=4, **ONE_VARIANT)


def refused_state(group: Any, folder: Path) -> Any:
    """Why a rank does not go on from what another fit has saved, or from what is no saved fit."""
    from training.distributed.state import FitStateDirectory
    from training.errors import ConfigError

    (folder / "torn" / "sweep-000001").mkdir(parents=True, exist_ok=True)
    reasons = []
    for directory in (folder / "bayes-state", folder / "torn"):
        try:
            FitStateDirectory(directory, "another fit", group).restore(None)  # type: ignore[arg-type]
        except ConfigError as error:
            reasons.append(str(error))
    return reasons


def _fitted(group: Any, folder: Path, name: str, item_bytes: int, **settings: Any) -> Any:
    from training.distributed.publication import Collector
    from training.distributed.reading import read_share
    from training.distributed.runtime import DistributedRuntime
    from training.distributed.state import FitStateDirectory
    from training.fit import trainers
    from training.fit.loop import fit

    group.item_bytes = item_bytes
    share = read_share(job_config(folder, "whole.csv", "none"), group)
    trainer_class = trainers.find(name)
    data = DistributedRuntime(group).training_set(share, torch.device("cpu"))
    trainer = trainer_class(data, trainer_class.Settings(**SETTINGS, **settings), np.random.default_rng(0))
    state = FitStateDirectory(folder / f"{name}-state", f"{name} {item_bytes}", group, every=0.0)
    history = state.restore(trainer) if name == "bayes" else []
    sent: list[dict[str, int]] = []

    def note(epoch: Any) -> None:
        sent.append(dict(group.sent))

    def save(trainer: Any, history: Any) -> None:
        if len(history) == 2:
            state.save(trainer, history)

    begun = len(history)
    fit(trainer, None, note, history, save)
    collector = Collector(group, folder)
    model = {key: table.clone() for key, table in collector.model(trainer.model()).tensors().items()}
    traffic = {kind: sent[-1][kind] - sent[-2].get(kind, 0) for kind in sent[-1]}
    return begun, model, traffic, share.users_here.bounds


JOBS: dict[str, Callable[[Any, Path], Any]] = {
    job.__name__: job
    for job in (read_in_parts, everything, fit_without_room, fit_als, fit_bayes, resume_bayes, refused_state)
}


def main(job: str, folder: Path) -> None:
    from training.distributed.group import joined

    with joined("cpu", None) as group:
        result = JOBS[job](group, folder)
        (folder / f"{job}-{group.size}-{group.rank}").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    os._exit(
        0
    )  # a process that ends a moment after it met the others is aborted by threads of theirs, once in four times
