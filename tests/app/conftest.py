"""What tests of the service share: drafts, and the checkpoint of `tests/conftest.py` read offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.registry.directory import load
from tests.support.drafts import STRANGE_IDS, random_draft


@pytest.fixture(scope="session")
def make_draft() -> Callable[..., Draft]:
    return random_draft


@pytest.fixture(scope="session")
def strange_ids() -> list[str]:
    return STRANGE_IDS


@pytest.fixture(scope="session")
def loaded(checkpoints: Path) -> Checkpoint:
    """The checkpoint that `client` asks, read offline."""
    return load(checkpoints)
