"""Checkpoints to publish: the one place where tests and benchmarks put a `Draft` together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint.files import HELD_OUT, HELD_OUT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA
from models.checkpoint.manifest import DataRecord, GateRecord, Manifest, TrainerRecord
from models.checkpoint.writer import Draft, write_table
from models.fold_in import FoldInPrior
from models.mf import MatrixFactorization
from models.registry.directory import publish
from models.relevance import RelevanceHead, RelevanceRule
from models.training_ratings import TrainingRatings

USERS, ITEMS, FACTORS, RATINGS = 300, 400, 12, 6_000
STRANGE_IDS = ["a/b", "a/top", "50%", "a b?c#d&e=f+g", "ünï·ço∂é", "..", '"', "'", "\\", "a\nb", "x\ty", "%2F", "top"]
RULE = RelevanceRule(
    mean=3.5,
    deviation=1.1,
    slope=0.28,
    missing_weight=0.25,
    regularisation=0.4,
    exponent=0.5,
    solved_factors=1,
)


def make_draft(
    model: MatrixFactorization, seen: TrainingRatings, users: pa.Table, items: pa.Table, **changes: Any
) -> Draft:
    """A draft of a model of these users, items and training ratings; `changes` are other values of its fields."""
    fields: dict[str, Any] = {
        "model": model,
        "users": users,
        "items": items,
        "seen": seen,
        "prior": FoldInPrior.learn(model, seen),
        "scale": (1.0, 5.0),
        "trainer": trainer_record(),
        "data": data_record(train_ratings=seen.items_N.numel()),
        "gate": GateRecord(verdict="passed"),
        "metrics": {},
        "write_report": write_nothing,
    }
    return Draft(**(fields | changes))


def trainer_record(**changes: Any) -> TrainerRecord:
    fields = {"name": "random", "preset": "random", "settings": {}, "seed": 0, "device": "cpu", "threads": 1}
    return TrainerRecord(**(fields | {"fit_seconds": 0.0} | changes))


def data_record(**changes: Any) -> DataRecord:
    fields = {"name": "random", "split": "none", "fingerprint": "0", "train_ratings": 0, "test_ratings": 0}
    return DataRecord(**(fields | {"duplicates": 0, "rating_mean": 3.0, "rating_deviation": 1.4} | changes))


def write_nothing(_: Path) -> None:
    """A report without files."""


def random_draft(seed: int, users: int = USERS, items: int = ITEMS, factors: int = FACTORS) -> Draft:
    """A model and a relevance head of random tables. Users are "1", "2", … and the strange ids; so are items."""
    rng = np.random.default_rng(seed)
    cells_N = rng.choice(users * items, min(RATINGS, users * items // 2), replace=False)
    seen = _ratings(cells_N, rng.integers(1, 6, len(cells_N)), users, items)
    item_ids = ids(items)
    catalogue = pa.Table.from_pydict(
        {
            "id": item_ids,
            "title": [None if row % 7 == 6 else f"Title {id_}" for row, id_ in enumerate(item_ids)],
            "year": [None if row % 5 == 4 else 1950 + row % 70 for row in range(items)],
            "genres": [["Drama", "Film-Noir"][: row % 3] for row in range(items)],
            "labels": [None if row % 4 == 3 else ["new", "on sale"][: row % 3] for row in range(items)],
            "mean_rating": rng.uniform(1, 5, items).astype(np.float32).tolist(),
            "ratings": seen.counts(items).tolist(),
        },
        schema=ITEM_SCHEMA,
    )
    return make_draft(
        random_model(rng, users, items, factors),
        seen,
        pa.table({"id": ids(users)}, USER_SCHEMA),
        catalogue,
        trainer=trainer_record(seed=seed),
        metrics={"rmse": 1.5, "coverage90": None},
        relevance=random_head(seed, users, items, factors + 4),
    )


def random_model(rng: np.random.Generator, users: int, items: int, factors: int) -> MatrixFactorization:
    """Tables whose predictions reach past a scale of 1 to 5 on both sides. Every item stands there twice."""

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0, 0.5, shape).astype(np.float32))

    q_IF, b_I = table(items + 1, factors), table(items + 1)
    q_IF[items // 2 : items] = q_IF[: items // 2]
    b_I[items // 2 : items] = b_I[: items // 2]
    return MatrixFactorization(torch.tensor(3.5), table(users + 1, factors), q_IF, table(users + 1), b_I)


def random_head(seed: int, users: int, items: int, factors: int) -> RelevanceHead:
    """Tables that order items otherwise than the predictions do."""
    rng = np.random.default_rng([seed, 1])
    tables = (rng.standard_normal((rows + 1, factors), dtype=np.float32) for rows in (users, items, items))
    return RelevanceHead(*map(torch.from_numpy, tables), rule=RULE)


def ids(count: int) -> list[str]:
    """Numbers from 1 on; the last of twenty or more are strange."""
    strange = STRANGE_IDS[: count // 20]
    return [str(number) for number in range(1, count - len(strange) + 1)] + strange


def publish_random(directory: Path, users: int, items: int, factors: int, seen: int, seed: int = 0) -> Manifest:
    """Publish a model of normal factors and biases, of any size; each user has about `seen` training ratings.

    It shows what a service takes for a model, not how good it is. Ids are the numbers from 0 on.
    """
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(0.3))

    users_N = np.repeat(np.arange(users), seen)
    cells_N = np.unique(users_N * items + rng.integers(0, items, len(users_N), dtype=np.int32))
    titles = pa.array([f"Title {number}" for number in range(items)])
    columns = {
        "id": pa.array(np.arange(items)).cast(pa.string()),
        "title": titles,
        "year": pa.array(np.full(items, 1999, np.int32)),
        "genres": pa.array([["Drama"]] * items, pa.list_(pa.string())),
        "labels": pa.nulls(items, pa.list_(pa.string())),
        "mean_rating": pa.array(np.full(items, 3.5, np.float32)),
        "ratings": pa.array(np.bincount(cells_N % items, minlength=items).astype(np.int32)),
    }
    tables = (table(users + 1, factors), table(items + 1, factors), table(users + 1), table(items + 1))
    model = MatrixFactorization(torch.tensor(3.5), *tables)
    ratings = _ratings(cells_N, rng.integers(1, 6, len(cells_N)), users, items)
    user_ids = pa.table({"id": pa.array(np.arange(users)).cast(pa.string())})
    return publish(directory, make_draft(model, ratings, user_ids, pa.table(columns).select(ITEM_SCHEMA.names)))


def _ratings(cells_N: Any, ratings_N: Any, users: int, items: int) -> TrainingRatings:
    """Ratings of cells, the numbers of which count through the items of each user."""
    users_N, items_N = (cells_N // items).astype(np.int32), (cells_N % items).astype(np.int32)
    return TrainingRatings.from_ratings(users_N, items_N, ratings_N.astype(np.float32), users)


def write_held_out(path: Path) -> None:
    """Held-out ratings, 400 of 50 users, each predicted exactly."""
    users, items = [str(user) for user in range(1, 51) for _ in range(8)], [str(item) for item in range(1, 9)] * 50
    columns = [users, items, [4.0] * 400, [4.0] * 400]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, HELD_OUT_SCHEMA, strict=True)]
    write_table(path / HELD_OUT, pa.table(arrays, HELD_OUT_SCHEMA))
