"""Time to a given RMSE on planted ratings: the preset `als` against other libraries; and its sweeps as the data grows.

    python -m benchmarks.training_speed [--ratings 10000000] [--rmse 0.7267] [--rounds 3] [--peers libmf cmfrec lenskit]
    python -m benchmarks.training_speed --scale 1000000 10000000 100000000 [--plot FILE.svg]

Every run is a process of its own; rounds alternate between the libraries. `als` is timed from the ratings as arrays to
the end of the sweep that reaches the RMSE, with grouping and without compilation. A library that says nothing before
its fit ends is timed to that end. CPU seconds are those of all cores together; they tell more on a busy machine. Peers
can live in an environment of their own: `--peers-python PEERS/bin/python`, with libmf, cmfrec, lenskit, pandas and
scipy. implicit is not compared: it ranks from clicks and predicts no ratings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from benchmarks import speed_peers
from benchmarks.speed_peers import Clock, Floats, Indices, Predict
from training.config import load_preset
from training.data.synthetic import planted
from training.fit.trainer import TrainingSet

TEST_PART = 0.05
SHAPES = {1_000_000: (6_000, 4_000), 10_000_000: (70_000, 11_000), 100_000_000: (480_000, 17_770)}


@dataclass(frozen=True, slots=True)
class Run:
    """One library, one fit: wall seconds, CPU seconds and RMSE after each model it had, and its peak memory."""

    fits: Sequence[tuple[float, float, float]]
    peak_mb: float

    def reached(self, target: float) -> tuple[float, float]:
        """Wall and CPU seconds when the RMSE was first reached; infinity if it never was."""
        return next(((wall, cpu) for wall, cpu, rmse in self.fits if rmse <= target), (np.inf, np.inf))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=10_000_000)
    parser.add_argument("--rmse", type=float, default=0.7267, help="default: what libmf reaches on 10 million ratings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=speed_peers.PEERS, default=list(speed_peers.PEERS))
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--scale", type=int, nargs="+", help="time the sweeps of `als` on so many ratings instead")
    parser.add_argument(
        "--plot", type=Path, help="with --scale: draw the CPU seconds of a sweep over the ratings, as SVG"
    )
    parser.add_argument("--als", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.als:
        torch.set_num_threads(speed_peers.THREADS)
        speed_peers.report(als, options.als)
    elif options.scale:
        sweeps = print_scale(options.scale)
        if options.plot:
            plot(options.scale, sweeps, options.plot)
    else:
        print_comparison(options.ratings, options.rmse, options.rounds, options.peers, options.peers_python)


def print_comparison(ratings: int, target: float, rounds: int, peers: Sequence[str], peers_python: str) -> None:
    names = ["als", *(name for name in peers if is_installed(name, peers_python))]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with TemporaryDirectory() as folder:
        save_planted(Path(folder), ratings)
        for _ in range(rounds):
            for name in names:
                runs[name].append(run(name, Path(folder), peers_python))
    print(
        f"{ratings:,} planted ratings, target RMSE {target}, {speed_peers.THREADS} threads, medians of {rounds} rounds"
    )
    print(f"{'':>8}{'s to target':>13}{'ratio':>8}{'CPU s':>9}{'ratio':>8}{'s in all':>10}{'RMSE':>9}{'peak MB':>9}")
    ours = medians([one.reached(target) for one in runs["als"]])
    for name in names:
        wall, cpu = medians([one.reached(target) for one in runs[name]])
        in_all, _, rmse = medians([one.fits[-1] for one in runs[name]])
        (peak_mb,) = medians([(one.peak_mb,) for one in runs[name]])
        ratios = f"{wall:>13.2f}{wall / ours[0]:>8.1f}{cpu:>9.2f}{cpu / ours[1]:>8.1f}"
        print(f"{name:>8}{ratios}{in_all:>10.2f}{rmse:>9.4f}{peak_mb:>9.0f}")
    for name in sorted(set(peers) - set(names)):
        print(f"{name:>8} is not installed")


def print_scale(sizes: Sequence[int]) -> list[float]:
    """Prints a line for each size; returns the median CPU seconds of a sweep."""
    sweeps = []
    print(f"{'ratings':>13}{'s, grouping + sweep':>21}{'s a sweep':>11}{'CPU s':>8}{'ns/rating':>11}{'peak MB':>9}")
    for ratings in sizes:
        with TemporaryDirectory() as folder:
            save_planted(Path(folder), ratings)
            one = run("als", Path(folder), sys.executable)
        first, *others = np.diff([(0.0, 0.0, 0.0), *one.fits], axis=0)
        wall, cpu, _ = medians(others)
        sweeps.append(cpu)
        line = f"{ratings:>13,}{first[0]:>21.2f}{wall:>11.3f}{cpu:>8.2f}{wall / ratings * 1e9:>11.1f}"
        print(f"{line}{one.peak_mb:>9.0f}", flush=True)
    return sweeps


def plot(sizes: Sequence[int], sweeps: Sequence[float], file: Path) -> None:
    """Measured seconds beside a line of slope 1 through the first of them, on logarithmic axes."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(sizes, sweeps, "o-", label="measured")
    axes.loglog(sizes, [sweeps[0] * size / sizes[0] for size in sizes], "--", label="linear")
    axes.set(xlabel="ratings", ylabel="CPU seconds a sweep", title="als, 31 factors, 2 threads")
    axes.legend()
    figure.savefig(file, metadata={"Date": None})


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def is_installed(name: str, python: str) -> bool:
    return (
        subprocess.run([python, "-W", "ignore", "-c", f"import {name}"], capture_output=True, check=False).returncode
        == 0
    )


def run(name: str, folder: Path, peers_python: str) -> Run:
    ours = [sys.executable, "-m", "benchmarks.training_speed", "--als", str(folder)]
    theirs = [peers_python, "-W", "ignore", speed_peers.__file__, name, str(folder)]
    done = subprocess.run(ours if name == "als" else theirs, stdout=subprocess.PIPE, text=True, check=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def als(users_N: Indices, items_N: Indices, ratings_N: Floats, clock: Clock) -> Iterator[Predict]:
    """The preset as shipped, one model a sweep."""
    preset = load_preset("als")
    data = TrainingSet(
        users=int(users_N.max()) + 1,
        items=int(items_N.max()) + 1,
        users_N=torch.from_numpy(users_N),
        items_N=torch.from_numpy(items_N),
        ratings_N=torch.from_numpy(ratings_N),
    )
    preset.trainer_class(first_ratings(data), preset.settings, np.random.default_rng(0)).epoch()  # compiles
    with clock:
        trainer = preset.trainer_class(data, preset.settings, np.random.default_rng(0))
    for _ in range(trainer.epochs):
        with clock:
            trainer.epoch()
        model = trainer.model()
        yield lambda users_B, items_B, model=model: model(torch.from_numpy(users_B), torch.from_numpy(items_B)).numpy()


def first_ratings(data: TrainingSet) -> TrainingSet:
    columns = (data.users_N, data.items_N, data.ratings_N)
    users_N, items_N, ratings_N = (column[:100] for column in columns)
    return TrainingSet(users=data.users, items=data.items, users_N=users_N, items_N=items_N, ratings_N=ratings_N)


def save_planted(folder: Path, ratings: int) -> None:
    """Write the columns of both parts. Users and items without a training rating are left out of both."""
    rng = np.random.default_rng(42)
    users, items = SHAPES.get(ratings, (ratings // 150 + 50, round(4 * ratings**0.5) + 50))
    users_N, items_N, ratings_N = planted(users, items, ratings, rng)
    train_N, test_N = np.split(rng.permutation(ratings), [round(ratings * (1 - TEST_PART))])
    users_N, user_known_N = renumbered(users_N, train_N)
    items_N, item_known_N = renumbered(items_N, train_N)
    test_N = test_N[(user_known_N & item_known_N)[test_N]]
    for name, column in (("users", users_N), ("items", items_N), ("ratings", ratings_N)):
        np.save(folder / f"train_{name}.npy", column[train_N])
        np.save(folder / f"test_{name}.npy", column[test_N])


def renumbered(indices_N: Indices, train_N: npt.NDArray[np.int64]) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Consecutive indices for those that occur in training, and whether each does."""
    used = np.bincount(indices_N[train_N], minlength=int(indices_N.max()) + 1) > 0
    return (np.cumsum(used, dtype=np.int32) - 1)[indices_N], used[indices_N]


if __name__ == "__main__":
    main()
