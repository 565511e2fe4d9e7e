"""Rating error of our presets and of every peer that is installed, on identical splits.

    python -m benchmarks.accuracy [--models NAME…] [--splits NAME…] [--data-dir DIR] [--peers-python PATH] [--out FILE]

The peers' pins clash with ours, so they live in an environment of their own (`benchmarks/peers.txt` says how):

    python -m venv PEERS
    PEERS/bin/python -m pip install --requirement benchmarks/peers.txt
    python -m benchmarks.accuracy --peers-python PEERS/bin/python

Splits are those of `docs/evaluation.md`; `u1` and `glocalk` are columns of Parquet files, and other sets than ml-100k
are such files, so they need `--data-dir`, a folder with ml-100k.parquet, ml-1m.parquet and the others' (MovieLens:
columns user_id, item_id, rating, timestamp in the original file order; others: user, item, rating; `fold` of ml-100k is
n where GroupLens put the row in uN.test; `split_glocalk_test` of ml-1m is true for the rows that
GLocal-K tests on). A model is given the training part and the pairs to predict, never a test rating.

Columns:

- RMSE: of predictions clipped to the scale of the training ratings; mean over the fits of a split. `random` has one fit
  a seed, each with its own test part; the other splits have one test part, fitted once or with `--seeds` seeds.
- 95 % CI: percentile bootstrap, 1,000 replicates. Each resamples the test ratings with replacement, within each test
  part, and takes the mean of the fits' RMSE. Models are not fitted again, and seeds are not resampled: the spread
  between the seeds of `random` is mostly that of their test ratings.
- against NAME: difference of the means, with its interval. The same resampled ratings are used for every model, so this
  interval is much narrower than that of either mean, and is the one to compare models by.
- mean error: of the clipped predictions minus the ratings, in per cent of the width of the scale; mean over fits.
- NDCG@10: of unseen items ordered by the model's score, as `docs/evaluation.md` defines it; mean over fits.
- fit, s: median over fits, from the library's own data structure to the fitted model, after a small warm-up fit.
- peak MB: most memory held by the model's process up to the end of the first fit, interpreter and libraries included.

`--keep DIR` keeps what the peers predicted and uses it again, so that changed presets can be compared without fitting
the peers again (their seconds are then those of the earlier run). Our presets are always fitted. A peer that did not
finish in time is not tried again either.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pyarrow import parquet

from training import metrics
from training.data.attributes import encode
from training.data.dataset import Dataset, load
from training.data.fetch import default_cache
from training.data.interactions import Int64s, Interactions
from training.data.split import parse_split, split
from training.data.trial_split import trial_rows
from training.errors import TrainingError
from training.evaluation.evaluate import TestSet, make_test_set
from training.options import SourceOptions

HERE = Path(__file__).resolve().parent
OURS, PEERS = HERE / "ours.py", HERE / "peers.py"
COLUMNS = {"user": "user_id", "item": "item_id"}
TIMED_OUT = "timed-out"
REPLICATES = 1000
REPLICATES_AT_ONCE = 50
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SplitKind:
    """A row of the list of splits.

    Attributes:
        data: named set.
        kind: as `--split` takes it, or None for a column of the Parquet file.
        column, value: the test rows are those where the column has the value.
        seeds: how many fits.
    """

    data: str
    kind: str | None
    column: str = ""
    value: Any = None
    seeds: int = 1

    @property
    def title(self) -> str:
        return f"{self.data} {self.kind or self.column}" + (f"={self.value}" if self.kind is None else "")

    @property
    def varies(self) -> bool:
        """Whether each seed has a test part of its own."""
        return self.kind is not None and self.kind.startswith("random")


SPLITS = {
    "random": SplitKind("ml-100k", "random:0.1", seeds=5),
    "u1": SplitKind("ml-100k", None, "fold", 1),
    "last-out": SplitKind("ml-100k", "last-out"),
    "glocalk": SplitKind("ml-1m", None, "split_glocalk_test", True),
    **{f"time-{name}": SplitKind(name, "time:0.1") for name in ("ml-100k", "ml-1m", "ml-latest-small")},
    **{name: SplitKind(name, "random:0.1", seeds=5) for name in ("ml-latest-small", "anime", "jester", "yelp")},
}


@dataclass(frozen=True, slots=True)
class Fold:
    """One training part with its test part, as the models see them."""

    seed: int
    train: Interactions
    test: TestSet
    task: Path


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that can be run: its name and title, the distribution it comes in (`version` is None where that is not
    installed), how many ratings it is fitted to at most, and which interpreter and program fit it."""

    name: str
    title: str
    package: str | None
    most_ratings: int | None
    version: str | None
    command: tuple[str, ...]
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a model on a split: figures, or the problem that kept it from having any."""

    entrant: Entrant
    problem: str | None = None
    rmse: float = np.nan
    replicates: Floats = field(default_factory=lambda: np.full(REPLICATES, np.nan))
    mean_error: float = np.nan  # of the width of the scale
    ndcg: float = np.nan
    seconds: float = np.nan
    peak_mb: float = np.nan


def main() -> None:
    options = arguments()
    wanted = [entrant for entrant in entrants(options) if is_wanted(entrant, options.models)]
    emit(heading(options, wanted), options.out)
    for name in options.splits:
        kind = SPLITS[name]
        with TemporaryDirectory() as folder:
            try:
                folds = list(read_folds(kind, options, Path(folder)))
            except TrainingError as error:
                emit(f"\n## {kind.title}\n\nNot run: {error}\n", options.out)
                continue
            rows = [measure(entrant, kind, folds, options, Path(folder)) for entrant in wanted]
            emit(table(kind, folds, rows, options.against), options.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", default=["ours", "peers"], help="names, `ours`, `peers`")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, help="default: those of ml-100k for which there is data")
    parser.add_argument("--seeds", type=int, help="fits per split, instead of 5 for random and 1 for the others")
    parser.add_argument("--data-dir", type=Path, help="folder with ml-100k.parquet and ml-1m.parquet")
    parser.add_argument("--peers-python", type=Path, default=Path(sys.executable), help="interpreter with the peers")
    parser.add_argument("--against", metavar="NAME", default="bias", help="the model that the others are compared with")
    parser.add_argument("--attributes", action="store_true", help="give our presets the attributes of ml-100k")
    parser.add_argument("--device", default="cpu", help="for our presets: auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=900, help="seconds for all fits of a model on a split")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what the peers predicted, and use it again")
    parser.add_argument("--out", type=Path, help="append the tables to this Markdown file")
    options = parser.parse_args()
    options.splits = options.splits or ["random", *(["u1"] if options.data_dir else []), "last-out"]
    return options


def emit(text: str, out: Path | None) -> None:
    print(text, end="", flush=True)
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(text)


# Models


def entrants(options: argparse.Namespace) -> list[Entrant]:
    """Our presets and the peers, whether they are installed or not."""
    ours, peers = (sys.executable, str(OURS)), (str(options.peers_python), str(PEERS))
    return [
        Entrant(**facts, command=command, is_ours=command is ours)
        for command in (ours, peers)
        for facts in listed(command)
    ]


def listed(command: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    listing = subprocess.run([*command, "list"], check=True, capture_output=True, text=True, env=environment(None))
    yield from map(json.loads, listing.stdout.splitlines())


def is_wanted(entrant: Entrant, names: Sequence[str]) -> bool:
    return entrant.name in names or ("ours" if entrant.is_ours else "peers") in names


def environment(threads: int | None) -> dict[str, str]:
    """For the models' processes: our packages on the path, and the number of threads for libraries that ask no one."""
    limits = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
    return os.environ | {"PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"} | limits


# Splits


def read_folds(kind: SplitKind, options: argparse.Namespace, folder: Path) -> Iterator[Fold]:
    """Divide the ratings and write a task for each seed."""
    dataset = read(kind, options.data_dir)
    for seed in range(options.seeds or kind.seeds):
        rows = divide(kind, dataset, options.data_dir, seed)
        yield make_fold(dataset, rows, seed, options, folder, kind.kind or "none")


def make_fold(
    dataset: Dataset,
    rows: tuple[Int64s, Int64s],
    seed: int,
    options: argparse.Namespace,
    folder: Path,
    kind: str = "none",
) -> Fold:
    """A fold of the given training and test rows, its task written into the folder; `kind` is the rule of the split."""
    train = dataset.ratings.take(rows[0]).compacted()
    test_part = dataset.ratings.take(rows[1]).aligned(train.user_ids, train.item_ids)
    test = make_test_set(train, test_part, dataset.scale, None, torch.device("cpu"))
    assert test is not None
    task = folder / f"{seed}.npz"
    extra = attributes(dataset, train) if options.attributes else {}
    write_task(task, train, test, kind, seed=seed, threads=options.threads, device=options.device, **extra)
    return Fold(seed, train, test, task)


def read(kind: SplitKind, data_dir: Path | None) -> Dataset:
    """The named set as the project reads it, which has the attributes; others from the folder."""
    rng = np.random.default_rng(0)
    if kind.data == "ml-100k":
        return load([kind.data], rng=rng, cache=default_cache())
    columns = COLUMNS if kind.data.startswith("ml-") else {}
    return load([str(data_file(kind, data_dir))], SourceOptions(columns=columns), rng=rng, cache=default_cache())


def data_file(kind: SplitKind, data_dir: Path | None) -> Path:
    if data_dir is None:
        raise TrainingError(f"{kind.title} needs --data-dir")
    return data_dir / f"{kind.data}.parquet"


def divide(kind: SplitKind, dataset: Dataset, data_dir: Path | None, seed: int) -> tuple[Int64s, Int64s]:
    if kind.kind is not None:
        return split(dataset.ratings, parse_split(kind.kind), np.random.default_rng(seed))
    file = parquet.read_table(data_file(kind, data_dir), columns=["rating", kind.column])
    if not np.array_equal(file["rating"].to_numpy(), dataset.ratings.ratings_N):
        raise TrainingError(f"the rows of {kind.data}.parquet are not those of {kind.data} in their original order")
    in_test_N = file[kind.column].to_numpy() == kind.value
    return np.flatnonzero(~in_test_N), np.flatnonzero(in_test_N)


def attributes(dataset: Dataset, train: Interactions) -> dict[str, Any]:
    tables: Mapping[str, tuple[pa.Table | None, pa.StringArray]] = {
        "user_attributes_UA": (dataset.users, train.user_ids),
        "item_attributes_IA": (dataset.items, train.item_ids),
    }
    return {name: encode(table, ids) for name, (table, ids) in tables.items() if table is not None}


def write_task(path: Path, train: Interactions, test: TestSet, kind: str, **facts: Any) -> None:
    """`worker.Task` says what is in it. Test ratings are not."""
    trial_N = trial_rows(train, parse_split(kind))
    facts |= {
        name: column
        for name, column in (("timestamps_N", train.timestamps_N), ("trial_N", trial_N))
        if column is not None
    }
    np.savez(
        path,
        users=train.users,
        items=train.items,
        users_N=train.users_N,
        items_N=train.items_N,
        ratings_N=train.ratings_N,
        test_users_M=test.users_N.int().numpy(),
        test_items_M=test.items_N.int().numpy(),
        **facts,
    )


# Measuring


def measure(entrant: Entrant, kind: SplitKind, folds: Sequence[Fold], options: argparse.Namespace, folder: Path) -> Row:
    """Fit the model in a process of its own and judge its predictions."""
    if entrant.version is None:
        return Row(entrant, "not installed")
    if entrant.most_ratings is not None and len(folds[0].train) > entrant.most_ratings:
        return Row(entrant, f"not run on more than {entrant.most_ratings:,} ratings")
    print(f"{kind.title}: {entrant.name}", file=sys.stderr, flush=True)
    keeps = options.keep is not None and not entrant.is_ours
    results = options.keep / identity(entrant, folds, options.threads) if keeps else folder / entrant.name
    if (results / TIMED_OUT).exists():
        return Row(entrant, (results / TIMED_OUT).read_text("utf-8"))
    files = [results / fold.task.name for fold in folds]
    if not all(file.exists() for file in files):
        results.mkdir(parents=True, exist_ok=True)
        if problem := run_model(entrant, results, folds, options):
            return Row(entrant, problem)
    return judged(entrant, kind, folds, [dict(np.load(file)) for file in files])


def identity(entrant: Entrant, folds: Sequence[Fold], threads: int) -> str:
    """Names a folder of predictions after all that decides them; a title tells the settings."""
    digest = hashlib.sha256(f"{entrant.title} {entrant.version} {threads}".encode())
    for fold in folds:
        for column in (fold.train.users_N, fold.train.items_N, fold.train.ratings_N, fold.test.items_N.numpy()):
            digest.update(np.ascontiguousarray(column).data)
    return f"{entrant.name}-{digest.hexdigest()[:16]}"


def run_model(entrant: Entrant, results: Path, folds: Sequence[Fold], options: argparse.Namespace) -> str | None:
    """Run the model's process; what went wrong, if something did."""
    command = [*entrant.command, "run", entrant.name, str(results), *(str(fold.task) for fold in folds)]
    try:
        subprocess.run(
            command,
            check=True,
            env=environment(options.threads),
            timeout=options.timeout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        problem = f"stopped after {options.timeout:.0f} s"
        (results / TIMED_OUT).write_text(problem, encoding="utf-8")
        return problem
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return f"failed: {last[:120].replace('|', '/')}"
    return None


def judged(
    entrant: Entrant, kind: SplitKind, folds: Sequence[Fold], results: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> Row:
    errors = [errors_of(result["predicted_M"], fold.test) for fold, result in zip(folds, results, strict=True)]
    squares, widths = [error_M**2 for error_M in errors], [np.ptp(fold.test.scale) for fold in folds]
    return Row(
        entrant,
        rmse=float(np.mean([np.sqrt(square_M.mean()) for square_M in squares])),
        replicates=bootstrap(squares, kind.varies),
        mean_error=float(np.mean([error_M.mean() / width for error_M, width in zip(errors, widths, strict=True)])),
        ndcg=float(np.mean([ndcg10(result["lists_UK"], fold) for fold, result in zip(folds, results, strict=True)])),
        seconds=float(np.median([result["seconds"] for result in results])),
        peak_mb=float(results[0]["peak_mb"]),
    )


def errors_of(predicted_M: Floats, test: TestSet) -> Floats:
    return np.asarray(np.clip(predicted_M, *test.scale) - test.ratings_N.double().numpy(), np.float64)


def bootstrap(squares: Sequence[Floats], varies: bool) -> Floats:
    """Means over fits of the RMSE on resampled test ratings, (REPLICATES,); each test part is resampled by itself.

    Fits that share their test part are given the same resampled ratings, and so are models: the draws are the same in
    every call.
    """
    groups = [[square_M] for square_M in squares] if varies else [squares]
    total = np.zeros(REPLICATES)
    for number, group in enumerate(groups):
        rng = np.random.default_rng([2026, number])
        square_MS = np.column_stack(group)
        for begin in range(0, REPLICATES, REPLICATES_AT_ONCE):
            counts_RM = resampled_counts(rng, REPLICATES_AT_ONCE, len(square_MS))
            rmse_RS = np.sqrt(counts_RM @ square_MS / len(square_MS))
            total[begin : begin + REPLICATES_AT_ONCE] += rmse_RS.sum(1)
    return total / len(squares)


def resampled_counts(rng: np.random.Generator, replicates: int, ratings: int) -> Floats:
    """How often each rating is drawn in each replicate."""
    drawn_RM = rng.integers(ratings, size=(replicates, ratings)) + np.arange(replicates)[:, None] * ratings
    return np.bincount(drawn_RM.ravel(), minlength=replicates * ratings).reshape(replicates, ratings).astype(np.float64)


def ndcg10(lists_UK: npt.NDArray[np.int32], fold: Fold) -> float:
    test, train = fold.test, fold.train
    relevant_M = (test.ratings_N >= test.relevant) & (test.users_N < train.users)
    users_B, counts_B = test.users_N[relevant_M].unique(return_counts=True)
    pairs = test.users_N[relevant_M] * (train.items + 1) + test.items_N[relevant_M]
    top_BK = torch.from_numpy(lists_UK).long()[users_B]
    hits_BK = torch.isin(users_B[:, None] * (train.items + 1) + top_BK, pairs)
    return float(metrics.ndcg(hits_BK, counts_B).mean())


# Output


def table(kind: SplitKind, folds: Sequence[Fold], rows: Sequence[Row], against: str) -> str:
    train, test = len(folds[0].train), len(folds[0].test)
    reference = next((row for row in rows if row.entrant.name == against and row.problem is None), None)
    seeds = f"seeds 0–{len(folds) - 1}" if len(folds) > 1 else "seed 0"
    lines = [
        f"\n## {kind.title}\n",
        f"{train:,} training and {test:,} test ratings; {seeds}"
        + (", a test part each" if kind.varies else ", one test part")
        + ".\n",
        f"| model | RMSE | 95 % CI | against {against} | mean error | NDCG@10 | fit, s | peak MB |",
        "|---|---|---|---|---|---|---|---|",
        *(line(row, reference) for row in sorted(rows, key=order)),
    ]
    return "\n".join(lines) + "\n"


def order(row: Row) -> tuple[bool, bool, float]:
    """By RMSE; then those that only rank, then those without figures."""
    return row.problem is not None, bool(np.isnan(row.rmse)), 0.0 if np.isnan(row.rmse) else row.rmse


def line(row: Row, reference: Row | None) -> str:
    title = f"**{row.entrant.title}**" if row.entrant.is_ours else row.entrant.title
    if row.problem is not None:
        return f"| {title} | {row.problem} | | | | | | |"
    figures = ["–", "–", "–", "–"]
    if not np.isnan(row.rmse):
        figures = [f"{row.rmse:.4f}", interval(row.replicates, ".4f"), "–", f"{100 * row.mean_error:+z.2f} %"]
        if reference is not None and reference is not row:
            difference = interval(row.replicates - reference.replicates, "+z.4f")
            figures[2] = f"{row.rmse - reference.rmse:+z.4f} ({difference})"
    return f"| {title} | {' | '.join(figures)} | {row.ndcg:.3f} | {row.seconds:.2f} | {row.peak_mb:.0f} |"


def interval(replicates: Floats, form: str) -> str:
    low, high = np.quantile(replicates, (0.025, 0.975))
    return f"{low:{form}} to {high:{form}}"


def heading(options: argparse.Namespace, wanted: Sequence[Entrant]) -> str:
    versions = dict.fromkeys(f"{entrant.package} {entrant.version}" for entrant in wanted if entrant.version)
    ours = f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}"
    return (
        f"\n# Rating accuracy, {datetime.datetime.now(datetime.UTC).date()}\n\n"
        f"{cpu_model()}, {options.threads} threads; {ours}"
        + (f"; peers: {', '.join(versions)}" if versions else "")
        + (". Our presets are given attributes" if options.attributes else "")
        + ". `benchmarks/accuracy.py` says what the columns mean.\n"
    )


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [row.partition(":")[2].strip() for row in info.read_text().splitlines() if row.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
