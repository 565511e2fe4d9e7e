"""Golden pairs find what hashes cannot: a model that is read otherwise than it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.checkpoint import golden
from models.checkpoint.files import GOLDEN, GOLDEN_SCHEMA
from models.errors import CheckpointCorruptError, GoldenPairsError
from models.registry.directory import load, publish
from tests.support.checkpoints import ITEMS, USERS, replace_table, replace_tensors, small_draft, small_model


@pytest.fixture
def version(tmp_path: Path) -> Path:
    draft = small_draft(model=small_model(mean=torch.tensor(3.0)))  # few are clipped
    return tmp_path / publish(tmp_path, draft).version


def test_they_hold_every_kind_of_unknown_id_and_what_the_model_says_of_each(version: Path) -> None:
    loaded = load(version.parent)
    users, items = (loaded.golden[name].to_pylist() for name in ("user", "item"))
    rows = [(loaded.users.row(user), loaded.items.row(item)) for user, item in zip(users, items, strict=True)]
    assert {(user == USERS, item == ITEMS) for user, item in rows} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert {user for user, _ in rows} == set(range(USERS + 1))
    assert {item for _, item in rows} == set(range(ITEMS + 1))
    expected = loaded.model(*torch.tensor(rows).T).clamp(1, 5)
    assert loaded.golden["rating"].to_pylist() == expected.tolist()
    golden.check_model(loaded)


def test_an_unknown_id_is_one_that_nobody_has(tmp_path: Path) -> None:
    users = pa.table({"id": ["unknown", "unknown?", "u"]})
    publish(tmp_path, small_draft(users=users))
    loaded = load(tmp_path)
    assert loaded.golden["user"].to_pylist()[-1] == "unknown??"


@pytest.mark.parametrize("row", [0, -1])
def test_a_prediction_that_is_off_is_found_and_named_without_ids(version: Path, row: int) -> None:
    table = load(version.parent).golden
    ratings = table["rating"].to_numpy().copy()
    ratings[row] += 0.001
    position = row % len(ratings)
    with pytest.raises(GoldenPairsError, match=rf"golden pair {position} of {len(ratings)} is predicted") as caught:
        golden.check(table, ratings)
    assert "unknown" not in str(caught.value)
    ratings[row] = np.nan
    with pytest.raises(GoldenPairsError):
        golden.check(table, ratings)


def test_rounding_of_another_device_is_not_taken_for_an_error(version: Path) -> None:
    table = load(version.parent).golden
    golden.check(table, table["rating"].to_numpy() * np.float32(1 + 1e-6))


@pytest.mark.parametrize("tensor", ["user_factors", "item_factors", "user_bias", "item_bias", "mean"])
def test_every_table_that_is_another_one_is_found(version: Path, tensor: str) -> None:
    table = load(version.parent).model.tensors()[tensor]
    replace_tensors(version, "weights.safetensors", {tensor: table.flip(0) if table.dim() else table + 1})
    with pytest.raises(GoldenPairsError):
        golden.check_model(load(version.parent))


def test_swapped_ids_are_found(version: Path) -> None:
    """As a file of the right format and hash that belongs to another model would have them."""
    table = load(version.parent).golden
    users = table["user"].take(pa.array([2, *range(1, len(table))]))
    replace_table(version, GOLDEN, table.set_column(0, GOLDEN_SCHEMA.field("user"), users))
    with pytest.raises(GoldenPairsError):
        golden.check_model(load(version.parent))


def rows(*ratings: float | None) -> pa.Table:
    fields = [field.with_nullable(None in ratings and field.name == "rating") for field in GOLDEN_SCHEMA]
    columns = [["u0"] * len(ratings), ["i0"] * len(ratings), pa.array(ratings, pa.float32())]
    return pa.table(columns, schema=pa.schema(fields))


@pytest.mark.parametrize("table", [rows(), rows(*[3.0] * 65), rows(None), rows(float("nan")), rows(5.5), rows(0.0)])
def test_a_table_that_cannot_be_golden_is_refused(version: Path, table: pa.Table) -> None:
    replace_table(version, GOLDEN, table)
    with pytest.raises(CheckpointCorruptError, match=r"golden\.arrow"):
        load(version.parent)
