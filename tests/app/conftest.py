"""What tests of the service share: drafts, and the checkpoint of `tests/conftest.py` read offline."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn.supervisors.multiprocess

from app.__main__ import main
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


@pytest.fixture
def restored_process() -> Iterator[None]:
    """The command writes into the environment and handles signals; both are taken back."""
    signals = uvicorn.supervisors.multiprocess.SIGNALS
    before, handlers = dict(os.environ), {sign: signal.getsignal(sign) for sign in signals}
    yield
    for sign, handler in handlers.items():
        signal.signal(sign, handler)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def refusal(restored_process: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `python -m app`, in this process, with flags and settings that it must refuse with exit code 2 and one line.

    Returns the line.
    """

    def run(*flags: str, **settings: str) -> str:
        os.environ.update({f"RATECAST_{name.upper()}": value for name, value in settings.items()})
        with pytest.raises(SystemExit, check=lambda error: error.code == 2):
            main(flags)
        output = capsys.readouterr()
        assert output.out == ""
        (line,) = output.err.splitlines()
        return line

    return run
