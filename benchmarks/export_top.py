"""How long it takes to write lists of twenty for 480,000 users, from 17,770 items (as the Netflix Prize), to Parquet.

    python -m benchmarks.export_top [--factors 32 48] [--users 480000] [--items 17770] [--seen 100] [--threads 2]

The tables are random; what counts is their size. Each model is exported in a process of its own; the seconds are those
of `training.export.export_top`, from a checkpoint in memory to the file under its name; the peak includes imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint.files import GOLDEN_SCHEMA, ITEM_SCHEMA
from models.checkpoint.manifest import DataRecord, GateRecord, Manifest, ModelShape, TrainerRecord
from models.checkpoint.reader import Checkpoint
from models.checkpoint.vocabulary import Vocabulary
from models.fold_in import FoldInPrior
from models.mf import MatrixFactorization
from models.orderings import by_rating
from models.sharding import Sharded
from models.training_ratings import TrainingRatings
from training.export import export_top

HEADER = (
    "| users | items | factors | seen by each | list | seconds | lists/s | file MB | peak RSS MB |\n" + "|---" * 9 + "|"
)


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(_measure(arguments, arguments.factors[0])))
        return
    print(f"torch {torch.__version__}, {arguments.threads} threads\n\n{HEADER}", flush=True)
    for factors in arguments.factors:
        command = [sys.executable, "-m", "benchmarks.export_top", *sys.argv[1:], "--one", "--factors", str(factors)]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {arguments.users:,} | {arguments.items:,} | {factors} | {arguments.seen} | {arguments.n} "
            f"| {figures['seconds']:.1f} | {arguments.users / figures['seconds']:,.0f} | {figures['file_mb']:.0f} "
            f"| {figures['peak_mb']:,.0f} |",
            flush=True,
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=int, nargs="+", default=[32, 48])
    parser.add_argument("--users", type=int, default=480_000)
    parser.add_argument("--items", type=int, default=17_770)
    parser.add_argument("--seen", type=int, default=100)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(arguments: argparse.Namespace, factors: int) -> dict[str, float]:
    torch.set_num_threads(arguments.threads)
    checkpoint = _random_checkpoint(arguments.users, arguments.items, factors, arguments.seen)
    with TemporaryDirectory() as folder:
        out = Path(folder) / "top.parquet"
        began = time.perf_counter()
        ordering = Sharded.whole(by_rating(checkpoint.model))
        rows = export_top(
            checkpoint,
            out,
            ordering,
            arguments.n,
            rating=ordering,
            include_seen=False,
            allowed_I=None,
            report=lambda _: None,
        )
        seconds = time.perf_counter() - began
        assert rows == arguments.users * arguments.n
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"seconds": seconds, "file_mb": out.stat().st_size / 1e6, "peak_mb": peak / 1e6}


def _random_checkpoint(users: int, items: int, factors: int, seen: int) -> Checkpoint:
    """Factors of standard deviation 0.3, biases of 0.3, and for each user that many items drawn with repetition."""
    rng = np.random.default_rng(0)

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(0.3))

    model = MatrixFactorization(
        torch.tensor(3.5), table(users + 1, factors), table(items + 1, factors), table(users + 1), table(items + 1)
    )
    offsets = np.minimum(np.arange(users + 2) * seen, users * seen)
    items_N = torch.from_numpy(rng.integers(0, items, users * seen, np.int32))
    seen_items = TrainingRatings(torch.from_numpy(offsets), items_N, torch.full((users * seen,), 3.0))
    ids = pa.array([f"item-{item}" for item in range(items)])
    return Checkpoint(
        manifest=_manifest(users, items, factors),
        model=model,
        users=Vocabulary(pa.array([f"user-{user}" for user in range(users)])),
        items=Vocabulary(ids),
        catalogue=ITEM_SCHEMA.empty_table(),
        seen=seen_items,
        prior=FoldInPrior(torch.ones(()), torch.eye(factors + 1), torch.eye(factors + 1)),
        relevance=None,
        golden=GOLDEN_SCHEMA.empty_table(),
    )


def _manifest(users: int, items: int, factors: int) -> Manifest:
    return Manifest(
        number=1,
        version="20260101T000000Z-random-000000",
        created_at=datetime.now(UTC),
        model=ModelShape(
            users=users,
            items=items,
            factors=factors,
            uncertainty=False,
            relevance_factors=None,
            relevance_rule=None,
            rating_min=1.0,
            rating_max=5.0,
        ),
        trainer=TrainerRecord(
            name="random", preset="random", settings={}, seed=0, device="cpu", threads=1, fit_seconds=0.0
        ),
        data=DataRecord(
            name="random",
            split="none",
            fingerprint="",
            train_ratings=0,
            test_ratings=0,
            duplicates=0,
            rating_mean=3.0,
            rating_deviation=1.0,
        ),
        gate=GateRecord(verdict="not measured"),
        metrics={},
        files={},
    )


if __name__ == "__main__":
    main()
