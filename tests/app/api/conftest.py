"""A service in this process, with a store, and its checkpoint directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from models.registry.directory import publish
from tests.support.asgi import Caller, calling
from tests.support.drafts import random_draft


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    publish(tmp_path, random_draft(seed=0))
    return tmp_path


@pytest.fixture
def call(directory: Path) -> Iterator[Caller]:
    with calling(create_app(Settings(checkpoints=directory))) as call:
        yield call
