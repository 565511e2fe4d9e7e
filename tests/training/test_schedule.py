"""A fit that is repeated goes on whatever happens."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from models.registry.last_fit import LastFit
from models.registry.registry import open_registry
from training import schedule
from training.errors import DataError, RefusedError


class EnoughError(Exception):
    """Ends a test."""


class Clock:
    """Time that passes only while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.slept) == 3:
            raise EnoughError

    def __call__(self) -> float:
        return self.now


def run(work, every: float = 1_000.0) -> tuple[list[float], list[LastFit]]:
    """How long was slept after each fit, and what was noted of it."""
    clock, done, noted = Clock(), [], []

    def counted() -> str:
        done.append(clock.now)
        clock.now += 10
        work(len(done))
        return f"v{len(done)}"

    with pytest.raises(EnoughError):
        schedule.repeat(every, counted, noted.append, clock.sleep, clock)
    assert len(noted) == len(done)
    return clock.slept, noted


def test_beginnings_are_so_far_apart() -> None:
    slept, noted = run(lambda _: None)
    assert slept == [990.0] * 3
    assert [(fit.outcome, fit.version, fit.reason) for fit in noted] == [
        ("published", f"v{number}", None) for number in (1, 2, 3)
    ]
    assert [fit.next_at - fit.ended_at for fit in noted] == [timedelta(seconds=990)] * 3


def test_work_that_takes_longer_begins_again_at_once() -> None:
    assert run(lambda _: None, every=5.0)[0] == [0.0] * 3


def test_what_failed_is_tried_sooner_and_what_was_refused_is_not() -> None:
    def work(number: int) -> None:
        if number == 1:
            raise DataError("the database is away")
        if number == 2:
            raise RefusedError("worse")

    slept, noted = run(work)
    assert slept == [50.0, 990.0, 990.0]
    assert [(fit.outcome, fit.version, fit.reason) for fit in noted] == [
        ("failed", None, "the database is away"),
        ("refused", None, "worse"),
        ("published", "v3", None),
    ]


@pytest.mark.parametrize("how", [partial(schedule.repeat, 1.0), schedule.once])
def test_a_bug_ends_it_and_is_noted(how) -> None:
    def work() -> str:
        raise KeyError("bug")

    noted: list[LastFit] = []
    with pytest.raises(KeyError):
        how(work, noted.append)
    assert [(fit.outcome, fit.reason, fit.next_at) for fit in noted] == [("failed", "KeyError: 'bug'", None)]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_fit_is_noted_in_a_directory_and_behind_a_url(tmp_path: Path, scheme: str) -> None:
    schedule.once(lambda: "v1", partial(schedule.note_in, f"{scheme}{tmp_path}"))
    found = open_registry(f"{scheme}{tmp_path}").last_fit()
    assert found is not None
    assert (found.outcome, found.version, found.next_at) == ("published", "v1", None)
    assert open_registry(f"{scheme}{tmp_path}").published() == []


def test_no_directory_is_made_for_a_note(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        schedule.once(_away, partial(schedule.note_in, str(tmp_path / "mistyped")))
    assert [*tmp_path.iterdir()] == []


def test_a_note_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".lock").mkdir()
    schedule.once(lambda: "v1", partial(schedule.note_in, str(tmp_path)))
    assert "the service cannot be told how the fit ended" in caplog.text


def _away() -> str:
    raise DataError("the database is away")
