"""An interrupted fit goes on from its file as if it had never stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import ROOT
from tests.support.data import planted_set
from training.errors import ConfigError
from training.fit.fit_state import FitStateFile
from training.fit.loop import Epoch, fit
from training.fit.trainers.adam import Adam, AdamSettings

SETTINGS = AdamSettings(factors=4, epochs=6, batch_size=64)


class Interrupted(Exception):  # noqa: N818
    """What Ctrl-C is to the loop."""


def trainer() -> Adam:
    return Adam(planted_set(users=60, items=40, ratings=900), SETTINGS, np.random.default_rng(0))


def stop_after(epochs: int) -> object:
    def report(epoch: Epoch) -> None:
        if epoch.number == epochs:
            raise Interrupted

    return report


def ignore(_: Epoch) -> None:
    pass


def interrupted_fit(file: Path) -> None:
    """Three epochs, of which two were saved."""
    with pytest.raises(Interrupted):
        fit(trainer(), None, stop_after(3), save=FitStateFile(file, "this fit", every=0).save)


def test_the_resumed_fit_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer()
    expected = fit(whole, None, ignore)
    interrupted_fit(tmp_path / "saved")
    resumed = trainer()
    state = FitStateFile(tmp_path / "saved", "this fit")
    done = state.restore(resumed)
    history = fit(resumed, None, ignore, done)
    assert len(done) == 2
    assert [epoch.figures for epoch in history] == [epoch.figures for epoch in expected]
    assert torch.equal(resumed.table, whole.table)


def test_a_file_of_another_fit_is_refused(tmp_path: Path) -> None:
    interrupted_fit(tmp_path / "saved")
    with pytest.raises(ConfigError, match="of another fit"):
        FitStateFile(tmp_path / "saved", "another fit").restore(trainer())


@pytest.mark.parametrize("content", [b"", b"torn", b"\xff" * 100])
def test_a_file_that_is_no_saved_fit_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved").write_bytes(content)
    with pytest.raises(ConfigError, match="is not a saved fit"):
        FitStateFile(tmp_path / "saved", "this fit").restore(trainer())


def test_a_save_soon_after_another_is_left_out(tmp_path: Path) -> None:
    state = FitStateFile(tmp_path / "saved", "this fit", every=3600)
    fit(trainer(), None, ignore, save=state.save)
    assert not (tmp_path / "saved").exists()


def test_two_processes_cannot_resume_one_fit_at_once_and_the_other_one_can_afterwards(tmp_path: Path) -> None:
    """They would write one file, and one of them would find it damaged, or gone, when it has fitted for hours."""
    file = tmp_path / "state"
    program = f"""
from pathlib import Path
from training.fit.fit_state import FitStateFile
FitStateFile(Path({str(file)!r}), "this fit").restore(None)
print("has it", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(ConfigError, match="another process is using it"):
            FitStateFile(file, "this fit").restore(trainer())
        other.kill()
    state = FitStateFile(file, "this fit")
    assert state.restore(trainer()) == []
    assert FitStateFile(file, "this fit").restore(trainer()) == []
    state.delete()
    assert list(tmp_path.iterdir()) == []
