from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.engine.errors import NotReadyError
from app.engine.store import Served, Store
from models.checkpoint import Checkpoint
from models.errors import CheckpointCorruptError, CheckpointNotFoundError
from models.publication import Draft, publish

CPU = torch.device("cpu")


def test_nothing_is_served_before_a_model_is_loaded(checkpoints: Path) -> None:
    with pytest.raises(NotReadyError):
        _ = Store(checkpoints, CPU).current


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=str(tmp_path)):
        Store(tmp_path, CPU).load()


def test_loading_follows_current(tmp_path: Path, make_draft: Callable[..., Draft]) -> None:
    store = Store(tmp_path, CPU)
    for seed in (1, 2):
        version = publish(tmp_path, make_draft(seed)).version
        store.load()
        assert store.current.version == version


def test_a_damaged_successor_leaves_the_model_that_is_served(tmp_path: Path, make_draft: Callable[..., Draft]) -> None:
    store = Store(tmp_path, CPU)
    version = publish(tmp_path, make_draft(1)).version
    store.load()
    damaged = tmp_path / publish(tmp_path, make_draft(2)).version / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    with pytest.raises(CheckpointCorruptError, match=r"weights\.safetensors"):
        store.load()

    assert store.current.version == version


def test_popular_items_come_by_falling_count_then_by_row(loaded: Checkpoint) -> None:
    served = Served.of(loaded)
    counts = np.bincount(loaded.seen.items_N.numpy(), minlength=loaded.model.items)
    assert served.popular_I.tolist() == sorted(range(len(counts)), key=lambda item: (-counts[item], item))
    assert loaded.ratings_I.tolist() == counts.tolist()
