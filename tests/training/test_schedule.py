"""A fit that is repeated goes on whatever happens."""

from __future__ import annotations

import pytest

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


def run(work, every: float = 1_000.0) -> tuple[list[float], int]:
    clock, done = Clock(), []

    def counted() -> None:
        done.append(clock.now)
        clock.now += 10
        work(len(done))

    with pytest.raises(EnoughError):
        schedule.repeat(every, counted, clock.sleep, clock)
    return clock.slept, len(done)


def test_beginnings_are_so_far_apart() -> None:
    assert run(lambda _: None) == ([990.0] * 3, 3)


def test_work_that_takes_longer_begins_again_at_once() -> None:
    assert run(lambda _: None, every=5.0) == ([0.0] * 3, 3)


def test_what_failed_is_tried_sooner_and_what_was_refused_is_not() -> None:
    def work(number: int) -> None:
        if number == 1:
            raise DataError("the database is away")
        if number == 2:
            raise RefusedError("worse")

    assert run(work) == ([50.0, 990.0, 990.0], 3)


def test_a_bug_ends_it() -> None:
    def work(_: int) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        schedule.repeat(1.0, lambda: work(1))
