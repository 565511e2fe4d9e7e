"""What a person sees of a job: bars on a terminal, lines in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from training import progress
from training.fit.loop import Epoch

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def epoch(number: int, error: float | None = None, name: str = "epoch") -> Epoch:
    return Epoch(number, 4, {"loss": 0.5}, error, fit_seconds=30.0 * number, examples_per_second=1_000.0, name=name)


def shown(monkeypatch: pytest.MonkeyPatch, *, width: int, terminal: bool, quiet: bool = False) -> str:
    """What a job of three phases leaves on a console."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, legacy_windows=False, _environ={})
    monkeypatch.setattr(progress, "terminal", lambda: console)
    with progress.following(quiet=quiet) as follower:
        follower.phase("reading ml-100k")
        follower.phase("fitting bayes")
        follower.epoch(epoch(1, 0.91))
        follower.epoch(epoch(2))
        follower.phase("fitting the relevance head")
        follower.epoch(epoch(4))
    return ESCAPE.sub("", stream.getvalue())


def test_a_log_has_a_line_for_each_phase_and_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, width=80, terminal=False).splitlines() == [
        "reading ml-100k",
        "fitting bayes",
        "epoch 1/4  loss 0.5000  RMSE 0.9100  1,000 examples/s  90.0 s left",
        "epoch 2/4  loss 0.5000  1,000 examples/s  60.0 s left",
        "fitting the relevance head",
        "epoch 4/4  loss 0.5000  1,000 examples/s  0.0 s left",
    ]


def test_a_terminal_has_a_row_for_each_phase_with_figures_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [" ".join(re.split(r"[\s━╸╺]+", line)) for line in shown(monkeypatch, width=80, terminal=True).splitlines()]
    final = rows[-5:-1]
    assert [row.strip() for row in final] == [
        "✓ starting",
        "✓ reading ml-100k",
        "✓ fitting bayes 2/4 RMSE 0.9100 1:00 left",
        "✓ fitting the relevance head 4/4 loss 0.5000 2:00",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_rows_are_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = re.split(r"[\r\n]+", shown(monkeypatch, width=width, terminal=True))
    assert max(map(len, lines)) <= width


def test_who_wants_it_quiet_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, width=80, terminal=True, quiet=True) == ""


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "0:07"), (59.6, "1:00"), (725, "12:05"), (10_800, "3:00:00")])
def test_time_left_is_told_as_a_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text
