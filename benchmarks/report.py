"""How long the report of a fit takes, and how large it is, for data of several sizes.

    python -m benchmarks.report [--sizes 943x1682x100000 1000000x50000x20000000] [--factors 48] [--runs 3]

Tables and ratings are random; what counts is their size. A tenth of the ratings is held out, the model has variances
and a relevance head, and items have titles. The seconds are those of `training.report.write_report`: of the first run,
which compiles the templates, and the median of the others.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint.manifest import GateRecord
from models.mf import MatrixFactorization
from models.relevance import RelevanceHead
from models.training_ratings import TrainingRatings
from tests.support.drafts import RULE
from training.config import load_preset
from training.data.dataset import Dataset
from training.data.interactions import Interactions
from training.data.train_test import TrainTest
from training.evaluation.evaluate import make_test_set
from training.fit.loop import Epoch
from training.report import write_report
from training.results import METRICS, Fitted, Result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["943x1682x100000", "1000000x50000x20000000"])
    parser.add_argument("--factors", type=int, default=48)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print("| users | items | ratings | first run, s | further runs, s | page, kB |\n" + "|---" * 6 + "|")
    for size in options.sizes:
        users, items, ratings = map(int, size.split("x"))
        result = random_result(users, items, ratings, options.factors)
        seconds, size_kb = measured(result, options.runs)
        later = statistics.median(seconds[1:] or seconds)
        print(f"| {users:,} | {items:,} | {ratings:,} | {seconds[0]:.2f} | {later:.2f} | {size_kb:.0f} |", flush=True)


def measured(result: Result, runs: int) -> tuple[list[float], float]:
    """Seconds of each run, and kilobytes of the page."""
    seconds = []
    with TemporaryDirectory() as directory:
        for _ in range(runs):
            began = time.perf_counter()
            write_report(result, GateRecord(verdict="passed"), Path(directory))
            seconds.append(time.perf_counter() - began)
        return seconds, (Path(directory) / "index.html").stat().st_size / 1e3


def random_result(users: int, items: int, ratings: int, factors: int) -> Result:
    """A fit of random tables on random ratings."""
    rng = np.random.default_rng(0)
    ratings_of_all = interactions(users, items, ratings, rng)
    cut = len(ratings_of_all) * 9 // 10
    order = rng.permutation(len(ratings_of_all))
    train, test = ratings_of_all.take(order[:cut]), ratings_of_all.take(order[cut:])
    ids = train.item_ids
    titles = pa.array([f"Title {number}" for number in range(items)])
    described = pa.table({"id": ids, "title": titles, "year": pa.array(np.full(items, 1999, np.int32))})
    history = [Epoch(n, 100, {"loss": 1 / n}, 1 / n, fit_seconds=1.0, examples_per_second=1.0) for n in range(1, 101)]
    tables = (torch.rand(rows + 1, 64) for rows in (users, items, items))
    fitted = Fitted(random_model(users, items, factors), history, RelevanceHead(*tables, rule=RULE), history)
    scale, rows = ratings_of_all.scale, len(ratings_of_all)
    dataset = Dataset(name="random", ratings=ratings_of_all, rows=rows, scale=scale, fingerprint="0" * 64)
    train_test = TrainTest(dataset=dataset, train=train, test=test, scale=scale)
    return Result(
        train_test=train_test,
        preset=load_preset("bayes"),
        fitted=fitted,
        evaluated=fitted,
        seen=TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, users),
        test=make_test_set(train, test, scale, None, torch.device("cpu")),
        metrics=dict.fromkeys(METRICS, 1.0),
        run={"seed": 0, "split": "random:0.1", "device": "cpu", "threads": torch.get_num_threads()}
        | train_test.totals(),
        described=described,
        measured_on=train_test,
        baseline=random_model(users, items, 0),
    )


def interactions(users: int, items: int, ratings: int, rng: np.random.Generator) -> Interactions:
    """Distinct pairs, about as many as asked for, with ratings of 1 to 5."""
    cells_N = np.unique(rng.integers(0, users * items, ratings))
    return Interactions(
        users_N=(cells_N // items).astype(np.int32),
        items_N=(cells_N % items).astype(np.int32),
        ratings_N=rng.integers(1, 6, len(cells_N)).astype(np.float32),
        timestamps_N=rng.integers(0, 1_700_000_000, len(cells_N)),
        user_ids=pa.array(np.arange(users)).cast(pa.string()),
        item_ids=pa.array(np.arange(items)).cast(pa.string()),
    )


def random_model(users: int, items: int, factors: int) -> MatrixFactorization:
    return MatrixFactorization(
        torch.tensor(3.0),
        *(torch.rand(rows + 1, factors) / (factors or 1) for rows in (users, items)),
        *(torch.rand(rows + 1) for rows in (users, items)),
        noise_variance=torch.tensor(1.0),
        user_variance=torch.rand(users + 1),
        item_variance=torch.rand(items + 1),
    )


if __name__ == "__main__":
    main()
