"""Waiting for a condition. Whoever waits for a process also notices that it has ended."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.forks import Child

SECONDS = 100.0  # beside other work a service may take 30 s to start; pytest ends a test after 120
PAUSE = 0.02  # seconds between two looks

Process: TypeAlias = subprocess.Popen[Any] | Child


def wait_until(
    condition: Callable[[], object],
    process: Process | None = None,
    *,
    log: Path | None = None,
    seconds: float = SECONDS,
) -> None:
    """Wait until a condition holds.

    Raises AssertionError as soon as the process has ended, and TimeoutError after `seconds`; both show the log.
    """
    looks = _looks(condition, process, log, seconds)
    while not condition():
        next(looks)
        time.sleep(PAUSE)


async def until(
    condition: Callable[[], Awaitable[object]],
    process: Process | None = None,
    *,
    log: Path | None = None,
    seconds: float = SECONDS,
) -> None:
    """`wait_until` for an event loop."""
    looks = _looks(condition, process, log, seconds)
    while not await condition():
        next(looks)
        await asyncio.sleep(PAUSE)


def _looks(condition: object, process: Process | None, log: Path | None, seconds: float) -> Iterator[None]:
    """Goes on for as long as waiting makes sense."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{process.args} ended with exit code {process.returncode}\n{_read(log)}")
        yield
    raise TimeoutError(f"{condition} did not hold within {seconds:g} s\n{_read(log)}")


def _read(log: Path | None) -> str:
    return "" if log is None else log.read_text("utf-8", "replace")
