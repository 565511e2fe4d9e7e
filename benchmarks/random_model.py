"""A checkpoint of random tables of any size, for measuring what a service takes for it, not how good it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint.files import ITEM_SCHEMA
from models.checkpoint.manifest import DataRecord, GateRecord, Manifest, TrainerRecord
from models.checkpoint.writer import Draft
from models.fold_in_prior import FoldInPrior
from models.mf import MatrixFactorization
from models.registry.publication import publish
from models.training_ratings import TrainingRatings


def publish_random(directory: Path, users: int, items: int, factors: int, seen: int, seed: int = 0) -> Manifest:
    """Publish a model of normal factors and biases; each user has about `seen` training ratings. Ids are numbers."""
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(0.3))

    users_N = np.repeat(np.arange(users, dtype=np.int32), seen)
    items_N = rng.integers(0, items, len(users_N), dtype=np.int32)
    cells_N = np.unique(users_N.astype(np.int64) * items + items_N)
    counts_I = np.bincount(cells_N % items, minlength=items).astype(np.int32)
    ids = pa.array(np.arange(items)).cast(pa.string())
    titles = pa.array([f"Title {number}" for number in range(items)])
    mean = pa.array(np.full(items, 3.5, np.float32))
    columns = {"id": ids, "title": titles, "year": pa.array(np.full(items, 1999, np.int32)), "mean_rating": mean}
    columns |= {"genres": pa.array([["Drama"]] * items, pa.list_(pa.string())), "ratings": pa.array(counts_I)}
    shapes = ((users + 1, factors), (items + 1, factors), (users + 1,), (items + 1,))
    model = MatrixFactorization(torch.tensor(3.5), *(table(*shape) for shape in shapes))
    ratings_N = rng.integers(1, 6, len(cells_N)).astype(np.float32)
    columns_N = ((cells_N // items).astype(np.int32), (cells_N % items).astype(np.int32), ratings_N)
    rated = TrainingRatings.from_ratings(*columns_N, users)
    return publish(
        directory,
        Draft(
            model=model,
            users=pa.table({"id": pa.array(np.arange(users)).cast(pa.string())}),
            items=pa.table(columns).select(ITEM_SCHEMA.names),
            seen=rated,
            prior=FoldInPrior.learn(model, rated),
            scale=(1.0, 5.0),
            trainer=TrainerRecord(
                name="random", preset="random", settings={}, seed=0, device="cpu", threads=1, fit_seconds=0.0
            ),
            data=DataRecord(
                name="random",
                split="none",
                fingerprint="0",
                train_ratings=len(cells_N),
                test_ratings=0,
                duplicates=0,
                rating_mean=3.0,
                rating_deviation=1.4,
            ),
            gate=GateRecord(verdict="not measured"),
            metrics={},
            write_report=lambda _: None,
        ),
    )
