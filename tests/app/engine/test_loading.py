"""What is loaded before there is an engine."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree

import pytest

from app.engine import loading
from models.devices import CPU, DevicePlacement
from models.errors import CheckpointNotFoundError
from models.registry.directory import publish
from tests.support.drafts import random_draft

ON_CPU = DevicePlacement(CPU)


def test_a_model_that_was_loaded_ahead_is_taken_once_and_not_read_again(tmp_path: Path) -> None:
    version = publish(tmp_path, random_draft(seed=0)).version
    assert loading.load_ahead(tmp_path, version, ON_CPU).version == version
    rmtree(tmp_path / version)
    assert loading.prepare(tmp_path, version, ON_CPU, None).version == version
    with pytest.raises(CheckpointNotFoundError):
        loading.prepare(tmp_path, version, ON_CPU, None)


def test_a_model_that_was_loaded_ahead_and_forgotten_is_read_again(tmp_path: Path) -> None:
    version = publish(tmp_path, random_draft(seed=0)).version
    loading.load_ahead(tmp_path, version, ON_CPU)
    loading.forget()
    rmtree(tmp_path / version)
    with pytest.raises(CheckpointNotFoundError):
        loading.prepare(tmp_path, version, ON_CPU, None)
