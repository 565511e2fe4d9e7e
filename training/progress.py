"""What a person sees while a command works: a bar on a terminal, lines from time to time in a log. Always on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from training.loop import Epoch
from training.ranks import is_first


@contextmanager
def progress() -> Iterator[Callable[[Epoch], None]]:
    """Yields the function to call after each epoch. Of several ranks the first shows it."""
    if not is_first():
        yield lambda _: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda epoch: console.print(describe(epoch), highlight=False, soft_wrap=True)
        return
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console) as bars:
        task = bars.add_task("reading the ratings", total=None)
        yield lambda epoch: _advance(bars, task, epoch)


@contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yields the function to call with how many of the `total` are done; a log gets a line each tenth of the way."""
    console = Console(stderr=True)
    if not console.is_terminal:
        tenths = -1

        def log(done: int) -> None:
            nonlocal tenths
            if tenths < (tenths := done * 10 // max(1, total)):
                console.print(f"{done:,} of {total:,} {what}", highlight=False, soft_wrap=True)

        yield log
        return
    with Progress(
        BarColumn(), TextColumn("{task.completed:,} of {task.total:,} {task.description}"), console=console
    ) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def describe(epoch: Epoch) -> str:
    """One line: epoch, loss, test RMSE where there is one, speed, time left."""
    error = "" if epoch.test_rmse is None else f"  RMSE {epoch.test_rmse:.4f}"
    speed = f"{epoch.examples_per_second:,.0f} examples/s"
    figures = f"loss {epoch.figures['loss']:.4f}{error}  {speed}  {epoch.seconds_left:.1f} s left"
    return f"{epoch.name} {epoch.number}/{epoch.epochs}  {figures}"


def _advance(bars: Progress, task: TaskID, epoch: Epoch) -> None:
    bars.update(task, completed=epoch.number, total=epoch.epochs, description=describe(epoch))
