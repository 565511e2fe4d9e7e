"""The result of a fit, made up of tables by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch

from models.mf import MatrixFactorization
from models.training_ratings import TrainingRatings
from tests.support.data import Rating, interactions
from training.config import load_preset
from training.data.dataset import Dataset
from training.data.train_test import TrainTest
from training.evaluation.evaluate import evaluate, held_out_rmse, make_test_set
from training.fit.loop import Epoch
from training.results import Fitted, Result

HISTORY = [
    Epoch(number, 2, {"loss": 1.0 / number}, 1.5 / number, fit_seconds=0.5 * number, examples_per_second=10.0)
    for number in (1, 2)
]
ITEM_SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "year": pa.int32()})


def constant_model(mean: float, users: int, items: int, **tables: torch.Tensor) -> MatrixFactorization:
    """A model that predicts its mean of everything, but for the tables that are given."""
    zeros = {
        "user_factors": torch.zeros(users + 1, 1),
        "item_factors": torch.zeros(items + 1, 1),
        "user_bias": torch.zeros(users + 1),
        "item_bias": torch.zeros(items + 1),
    }
    return MatrixFactorization(mean=torch.tensor(mean), **(zeros | tables))


def make_result(
    train: Sequence[Rating],
    test: Sequence[Rating],
    users: int,
    items: int,
    model: MatrixFactorization,
    baseline: MatrixFactorization | None = None,
    *,
    name: str = "set",
    titles: Sequence[str | None] | None = None,
    history: Sequence[Epoch] = HISTORY,
    **changes: Any,
) -> Result:
    """Ratings (user, item, rating) of u0 … and i0 …; a test rating of an index past the last is of an unknown id.

    `titles` are of the items in their order, all of 1999. `changes` are attributes of the result.
    """
    training = interactions(train, users, items)
    held_out = interactions(test, users, items) if test else training.take(torch.empty(0, dtype=torch.long).numpy())
    described = None
    if titles is not None:
        described = pa.table({"id": training.item_ids, "title": titles, "year": [1999] * items}, schema=ITEM_SCHEMA)
    scale = training.scale
    dataset = Dataset(name=name, ratings=training, rows=len(training), scale=scale, fingerprint="f" * 64)
    ratings = TrainTest(dataset=dataset, train=training, test=held_out, scale=scale)
    test_set = make_test_set(training, held_out, scale, None, torch.device("cpu"))
    seen = TrainingRatings.from_ratings(training.users_N, training.items_N, training.ratings_N, users)
    fitted = Fitted(model, history, None, [])
    metrics: dict[str, float | None] = {}
    if test_set is not None and baseline is not None:
        metrics = evaluate(model, test_set, seen) | {"bias_rmse": held_out_rmse(baseline, test_set)}
    return Result(
        **{
            "train_test": ratings,
            "preset": load_preset("bias"),
            "fitted": fitted,
            "evaluated": fitted,
            "seen": seen,
            "test": test_set,
            "metrics": metrics,
            "summary": {},
            "run": {"seed": 3, "split": "random:0.1", "device": "cpu", "threads": 1} | ratings.totals(),
            "described": described,
            "measured_on": ratings,
            "baseline": baseline,
        }
        | changes
    )
