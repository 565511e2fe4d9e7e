"""Progress on stderr: bars on a terminal, lines in a log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from training.launch import is_first

if TYPE_CHECKING:
    from training.fit.loop import Epoch

BAR = 16  # columns; the longest step with its figures then fits into a line of 80


class JobProgress(NamedTuple):
    """The functions that a job calls when a step begins, and when a pass of the current step has ended."""

    phase: Callable[[str], None]
    epoch: Callable[[Epoch], None]


class Bars:
    """Shows a row for each step, ticked off when the next begins; the row of a fit has a bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begin("starting")  # torch takes seconds to import

    def _begin(self, name: str) -> None:
        self._error = ""
        self._task = self._progress.add_task(name, total=None, figures="")

    def phase(self, name: str) -> None:
        self.finish()
        self._begin(name)

    def epoch(self, epoch: Epoch) -> None:
        if epoch.test_rmse is not None:
            self._error = f"RMSE {epoch.test_rmse:.4f}"
        left = f"{clock(epoch.seconds_left)} left" if epoch.number < epoch.epochs else clock(epoch.fit_seconds)
        error = self._error or f"loss {epoch.figures['loss']:.4f}"
        figures = f"{epoch.number}/{epoch.epochs} {error} {left}"
        self._progress.update(self._task, completed=epoch.number, total=epoch.epochs, figures=figures)

    def finish(self) -> None:
        """Tick off the current step."""
        done = self._progress.tasks[self._task].total or 1
        self._progress.update(self._task, completed=done, total=done)


@contextmanager
def following(*, quiet: bool = False) -> Iterator[JobProgress]:
    """Show the progress of a job. Where it is quiet, and on all ranks but the first, only warnings are logged."""
    console = terminal()
    if quiet or not is_first():
        with only_warnings():
            yield JobProgress(lambda _: None, lambda _: None)
    elif not console.is_interactive:
        line = partial(console.print, highlight=False, markup=False, soft_wrap=True)
        yield JobProgress(line, lambda epoch: line(describe(epoch)))
    else:
        with _bars(console) as progress:
            bars = Bars(progress)
            yield JobProgress(bars.phase, bars.epoch)
            bars.finish()
        console.print()  # a blank line before the result


@contextmanager
def only_warnings() -> Iterator[None]:
    """Log nothing that is less than a warning."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


@contextmanager
def counting(total: int, what: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show progress through `total` things. Yields a function to call with how many are done.

    A log gets a line for each tenth.
    """
    console = terminal()
    if quiet:
        yield lambda _: None
    elif not console.is_interactive:
        yield _tenths(console, total, what)
    else:
        with _bars(console) as progress:
            task = progress.add_task(what, total=total, figures="")
            yield lambda done: progress.update(task, completed=done, figures=f"{done:,}/{total:,} {_left(progress)}")


def describe(epoch: Epoch) -> str:
    """One line: epoch, loss, test RMSE if there is one, speed, time left."""
    error = "" if epoch.test_rmse is None else f"  RMSE {epoch.test_rmse:.4f}"
    speed = f"{epoch.examples_per_second:,.0f} examples/s"
    figures = f"loss {epoch.figures['loss']:.4f}{error}  {speed}  {epoch.seconds_left:.1f} s left"
    return f"{epoch.name} {epoch.number}/{epoch.epochs}  {figures}"


def clock(seconds: float) -> str:
    """`0:07`, `12:05` or `3:00:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@cache
def terminal() -> Console:
    """The console on stderr. There is one, so that bars and log lines do not overwrite one another."""
    return Console(stderr=True)


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),  # shrinks first
        BarColumn(BAR),
        TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
    )


def _left(progress: Progress) -> str:
    left = progress.tasks[0].time_remaining
    return "" if left is None else f"{clock(left)} left"


def _tenths(console: Console, total: int, what: str) -> Callable[[int], None]:
    tenths = -1

    def log(done: int) -> None:
        nonlocal tenths
        if tenths < (tenths := done * 10 // max(1, total)):
            console.print(f"{done:,} of {total:,} {what}", highlight=False, soft_wrap=True)

    return log
