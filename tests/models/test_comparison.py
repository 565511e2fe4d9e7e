"""Which of two versions predicts better, against errors computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.checkpoint.files import HELD_OUT_SCHEMA, ITEM_SCHEMA
from models.checkpoint.reader import Checkpoint
from models.comparison import compare
from models.errors import ComparisonError
from models.mf import MatrixFactorization
from models.registry.directory import load, publish
from models.training_ratings import TrainingRatings
from tests.support.drafts import make_draft

USERS, ITEMS = 40, 30


def version(folder: Path, level: float, fitted: int = 1) -> Checkpoint:
    """One that predicts `level` for everything. Each user was fitted with the first `fitted` items."""
    model = MatrixFactorization(
        torch.tensor(level),
        torch.zeros(USERS + 1, 1),
        torch.zeros(ITEMS + 1, 1),
        torch.zeros(USERS + 1),
        torch.zeros(ITEMS + 1),
    )
    users_N, items_N = np.repeat(np.arange(USERS), fitted), np.tile(np.arange(fitted), USERS)
    ratings_N = np.full(len(users_N), 3, np.float32)
    seen = TrainingRatings.from_ratings(users_N.astype(np.int32), items_N.astype(np.int32), ratings_N, USERS)
    nulls = {field.name: pa.nulls(ITEMS, field.type) for field in ITEM_SCHEMA}
    items = nulls | {"id": pa.array([f"i{row}" for row in range(ITEMS)]), "ratings": pa.array(seen.counts(ITEMS))}
    users = pa.table({"id": [f"u{row}" for row in range(USERS)]})
    return load(folder, publish(folder, make_draft(model, seen, users, pa.table(items).cast(ITEM_SCHEMA))).version)


def held_out(begin: int, end: int, predicted: float, rating: float | None = None) -> pa.Table:
    """Ratings of every user for a range of items, and what the version said that was measured by them."""
    rng = np.random.default_rng(begin)
    pairs = [(f"u{user}", f"i{item}") for user in range(USERS) for item in range(begin, end)]
    ratings_N = rng.choice([2.0, 4.0], len(pairs)) if rating is None else np.full(len(pairs), rating)
    columns = [[user for user, _ in pairs], [item for _, item in pairs], ratings_N, np.full(len(pairs), predicted)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, HELD_OUT_SCHEMA, strict=True)]
    return pa.table(arrays, HELD_OUT_SCHEMA)


def test_the_errors_are_those_of_both_on_the_same_ratings(tmp_path: Path) -> None:
    one, other = version(tmp_path, 4.0), version(tmp_path, 3.5)
    tables = held_out(10, 15, 4.0, rating=4.0), held_out(12, 20, 3.5, rating=4.0)
    found = compare(one, other, tables)
    assert (found.ratings, found.users) == (USERS * 10, USERS)
    assert (found.rmse, found.rmse_against, found.difference) == (0.0, 0.5, -0.5)
    assert (found.low, found.high, found.verdict) == (-0.5, -0.5, "better")
    assert compare(other, one, tables[::-1]).verdict == "worse"


def test_versions_that_err_alike_are_no_different(tmp_path: Path) -> None:
    one, other = version(tmp_path, 3.01), version(tmp_path, 2.99)
    found = compare(one, other, (held_out(10, 20, 3.01), None))
    assert found.low < found.difference < found.high
    assert found.verdict == "no difference"


def test_ratings_that_a_version_was_fitted_on_do_not_count(tmp_path: Path) -> None:
    one, other = version(tmp_path, 4.0), version(tmp_path, 3.5, fitted=15)
    found = compare(one, other, (held_out(10, 20, 4.0, rating=4.0), None))
    assert found.ratings == USERS * 5


def test_what_a_version_said_of_its_own_ratings_counts_though_it_was_fitted_on_them_afterwards(tmp_path: Path) -> None:
    one, other = version(tmp_path, 4.0, fitted=ITEMS), version(tmp_path, 3.5)
    found = compare(one, other, (held_out(10, 20, 3.75, rating=4.0), None))
    assert (found.ratings, found.rmse, found.rmse_against) == (USERS * 10, 0.25, 0.5)


def test_too_few_ratings_are_no_comparison(tmp_path: Path) -> None:
    one, other = version(tmp_path, 4.0), version(tmp_path, 3.5)
    with pytest.raises(ComparisonError, match="80 held-out ratings are new to both"):
        compare(one, other, (held_out(10, 12, 4.0), None))
    with pytest.raises(ComparisonError, match="0 held-out ratings"):
        compare(one, other, (None, None))
