"""Folding users in: how near it comes to a full fit, how the error falls with each rating, and what it costs.

    python -m benchmarks.fold_in [--data-dir DIR] [--parts quality cold speed service] [--presets NAME…] [--plot FILE]

- quality: of 100 users of ml-1m (drawn with seed 7) no rating is in the fit. They are folded in from four fifths of
  theirs, and the RMSE is over the rest. "Full fit" is the same preset fitted on everybody's ratings, those four fifths
  among them. The 95 % interval of the difference is a bootstrap over users, 1,000 replicates.
- cold: the same users from the first 0, 1, 2, 5, 10, 20 of their four fifths in an order of chance, mean over five
  orders; at 0 it is what an unknown user is predicted: μ + b_i and the average user's row.
- speed: one user of 20 ratings, and many at once, on a checkpoint of ml-100k; with and without the relevance head.
- service: `POST /recommend` with 20 ratings in it at 100 requests a second, on the same checkpoint.

ml-1m is read from DIR/ml-1m.parquet (columns user_id, item_id, rating, in the original order), if --data-dir names one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from models.checkpoint.reader import Checkpoint
from models.fold_in import FoldIn, FoldInPrior, RowSolver
from models.mf import MatrixFactorization
from models.registry.directory import load
from models.training_ratings import TrainingRatings
from tests.support.service import serving
from training.config import load_preset
from training.data import dataset
from training.data.fetch import default_cache
from training.data.interactions import Interactions
from training.fit.loop import fit
from training.fit.trainer import TrainingSet
from training.options import SourceOptions

HELD_OUT_USERS, COLD, ORDERS, REPLICATES = 100, (0, 1, 2, 5, 10, 20), 5, 1_000
COLUMNS = {"user": "user_id", "item": "item_id"}
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Person:
    """Somebody who is no part of a fit: the ratings that are told, and those to be predicted."""

    user: int
    items_N: Rows
    ratings_N: npt.NDArray[np.float32]
    test_items_M: Rows
    test_M: npt.NDArray[np.float32]


def main() -> None:
    arguments = _arguments()
    if arguments.data_dir is not None and {"quality", "cold"} & set(arguments.parts):
        source = dataset.load(
            [str(arguments.data_dir / "ml-1m.parquet")],
            SourceOptions(columns=COLUMNS),
            rng=np.random.default_rng(0),
            cache=default_cache(),
        )
        curves = {}
        for preset in arguments.presets:
            curves[preset] = quality_and_cold(preset, source.ratings, arguments.parts)
        if arguments.plot is not None:
            plot(curves, arguments.plot)
    if {"speed", "service"} & set(arguments.parts):
        with TemporaryDirectory() as folder:
            publish_ml_100k(Path(folder))
            if "speed" in arguments.parts:
                speed(load(Path(folder)))
            if "service" in arguments.parts:
                asyncio.run(latency(Path(folder)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["quality", "cold", "speed", "service"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--presets", nargs="+", default=["bayes", "als"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--plot", type=Path, help="an SVG of the cold curve")
    return parser.parse_args()


# Quality


def quality_and_cold(preset: str, ratings: Interactions, parts: Sequence[str]) -> dict[int, float]:
    rng = np.random.default_rng(7)
    held = np.sort(rng.choice(ratings.users, HELD_OUT_USERS, replace=False))
    people, told = [], np.zeros(len(ratings), bool)
    for user in held.tolist():
        rows = rng.permutation(np.flatnonzero(ratings.users_N == user))
        cut = len(rows) - max(1, len(rows) // 5)
        told[rows[:cut]] = True
        items, values = ratings.items_N[rows].astype(np.int64), ratings.ratings_N[rows]
        people.append(Person(user, items[:cut], values[:cut], items[cut:], values[cut:]))
    others = ~np.isin(ratings.users_N, held)
    model, solver = fitted(preset, ratings, others)
    scale = ratings.scale
    folded = [errors(model, scale, person, solver.solve(person.items_N, person.ratings_N)) for person in people]
    if "quality" in parts:
        full, _ = fitted(preset, ratings, others | told)
        whole = [errors_of_row(full, scale, person) for person in people]
        low, high = bootstrap(folded, whole)
        print(
            f"| {preset} | {rmse(folded):.4f} | {rmse(whole):.4f} | {rmse(folded) - rmse(whole):+.4f} "
            f"({low:+.4f} to {high:+.4f}) |",
            flush=True,
        )
    curve = {}
    if "cold" in parts:
        unknown = rmse([errors(model, scale, person, None) for person in people])
        for count in COLD:
            found = []
            for order in range(ORDERS):
                draw = np.random.default_rng([order, 1])
                for person in people:
                    chosen = draw.permutation(len(person.items_N))[:count]
                    row = solver.solve(person.items_N[chosen], person.ratings_N[chosen])
                    found.append(errors(model, scale, person, row))
            curve[count] = rmse(found)
        falls = all(curve[a] > curve[b] for a, b in pairwise(COLD))
        cells = " | ".join(f"{curve[count]:.4f}" for count in COLD)
        print(
            f"| {preset}, after {', '.join(map(str, COLD))} ratings | {cells} | unknown {unknown:.4f} | "
            f"{'falls' if falls else 'DOES NOT FALL'} |",
            flush=True,
        )
    return curve


def fitted(preset: str, ratings: Interactions, rows: npt.NDArray[np.bool_]) -> tuple[MatrixFactorization, RowSolver]:
    """The model of a preset for some of the ratings, under all ids, and what folds users into it."""
    found = load_preset(preset)
    train = ratings.take(np.flatnonzero(rows))
    data = TrainingSet(
        users=ratings.users,
        items=ratings.items,
        users_N=torch.tensor(train.users_N),
        items_N=torch.tensor(train.items_N),
        ratings_N=torch.tensor(train.ratings_N),
    )
    trainer = found.trainer_class(data, found.settings, np.random.default_rng([0, 1]))
    fit(trainer, None, lambda _: None)
    model = trainer.model()
    seen = TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, ratings.users)
    return model, RowSolver(model, FoldInPrior.learn(model, seen), seen.counts(model.items))


def errors(
    model: MatrixFactorization, scale: tuple[float, float], person: Person, row: object
) -> npt.NDArray[np.float64]:
    """Squared errors of a folded row, or of the row for unknown users where there is none."""
    factors = model.user_factors[-1].numpy() if row is None else row.factors  # type: ignore[attr-defined]
    bias = float(model.user_bias[-1]) if row is None else float(row.bias)  # type: ignore[attr-defined]
    return _squares(model, scale, person, factors, bias)


def errors_of_row(model: MatrixFactorization, scale: tuple[float, float], person: Person) -> npt.NDArray[np.float64]:
    return _squares(model, scale, person, model.user_factors[person.user].numpy(), float(model.user_bias[person.user]))


def _squares(
    model: MatrixFactorization,
    scale: tuple[float, float],
    person: Person,
    factors: npt.NDArray[np.float32],
    bias: float,
) -> npt.NDArray[np.float64]:
    items = person.test_items_M
    predicted = model.item_factors[items].numpy() @ factors + model.item_bias[items].numpy() + bias + float(model.mean)
    return np.square(predicted.clip(*scale) - person.test_M).astype(np.float64)


def rmse(squares: Sequence[npt.NDArray[np.float64]]) -> float:
    return float(np.sqrt(np.concatenate(squares).mean()))


def bootstrap(
    ours: Sequence[npt.NDArray[np.float64]], theirs: Sequence[npt.NDArray[np.float64]]
) -> tuple[float, float]:
    rng = np.random.default_rng(2026)
    sums = np.array([[a.sum(), b.sum(), len(a)] for a, b in zip(ours, theirs, strict=True)])
    drawn = [sums[rng.integers(0, len(sums), len(sums))].sum(0) for _ in range(REPLICATES)]
    low, high = np.percentile([np.sqrt(a / n) - np.sqrt(b / n) for a, b, n in drawn], [2.5, 97.5])
    return float(low), float(high)


def plot(curves: dict[str, dict[int, float]], file: Path) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for preset, curve in curves.items():
        axes.plot([*curve], [*curve.values()], marker="o", label=preset)
    axes.set(xlabel="ratings given", ylabel="RMSE", title="100 users of ml-1m who are no part of the fit")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, metadata={"Date": None})


# Speed


def publish_ml_100k(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "training",
        "fit",
        "--data",
        "ml-100k",
        "--split",
        "random:0.1",
        "--preset",
        "bayes",
    ]
    subprocess.run([*command, "--out", str(folder)], check=True, capture_output=True)


def speed(loaded: Checkpoint) -> None:
    torch.set_num_threads(2)
    folding, rng = (
        FoldIn.of(loaded.model, loaded.prior, loaded.relevance, loaded.ratings_I),
        np.random.default_rng(0),
    )
    assert folding.head is not None
    items, count = len(loaded.items), 20
    lists = [
        (np.sort(rng.choice(items, count, replace=False)), rng.integers(1, 6, count).astype(float)) for _ in range(500)
    ]
    head = folding.head
    rating = [timed(folding.users.solve, *one) for one in lists]
    relevance = [timed(head.solve, *one) for one in lists]
    both = [sum(pair) for pair in zip(rating, relevance, strict=True)]
    for name, seconds in (("factors, bias and variance", rating), ("relevance head", relevance), ("both", both)):
        print(
            f"| one user of {count} ratings, {name} | {statistics.median(seconds) * 1e6:.0f} µs "
            f"(99 %: {np.percentile(seconds, 99) * 1e6:.0f}) |",
            flush=True,
        )
    users = 20_000
    offsets = torch.arange(users + 1) * count
    columns = torch.from_numpy(np.concatenate([rng.choice(items, count, replace=False) for _ in range(users)]))
    ratings = torch.from_numpy(rng.integers(1, 6, users * count).astype(float))
    seconds = [timed(folding.users.solve_many, offsets, columns, ratings) for _ in range(7)]
    print(
        f"| {users:,} users of {count} ratings at once | {users / statistics.median(seconds):,.0f} users/s |",
        flush=True,
    )


def timed(work: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


async def latency(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as requests:
        files = []
        for number in range(200):
            ratings = [
                {"item": str(item), "rating": int(rng.integers(1, 6))}
                for item in rng.choice(1_500, 20, replace=False) + 1
            ]
            body = json.dumps({"ratings": ratings, "n": 10}).encode()
            head = (
                f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            )
            file = Path(requests) / str(number)
            file.write_bytes(f"{head}\r\n\r\n".encode() + body)
            files.append(str(file))
        with serving(folder) as service:
            command = [sys.executable, "-m", "benchmarks.open_loop", "--port", str(service.port)]
            command += ["--rate", "100", "--requests"]
            for seconds in ("3", "20"):
                client = await asyncio.create_subprocess_exec(
                    *command, *files, "--seconds", seconds, stdout=asyncio.subprocess.PIPE
                )
                output, _ = await client.communicate()
    figures = json.loads(output)
    print(
        f"| POST /recommend with 20 ratings, 100/s | p50 {figures['p50']:.1f} ms, p99 {figures['p99']:.1f} ms, "
        f"{figures['errors']} errors |",
        flush=True,
    )


if __name__ == "__main__":
    main()
