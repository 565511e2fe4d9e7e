"""Waits for work on another thread, for a limited time, and only until the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import torch

from app.engine.errors import CancelledRequestError, DeadlineExceededError

T = TypeVar("T")
Cancelled: TypeAlias = Callable[[], Awaitable[object]]  # its awaitable ends when the client has gone

# Handing work to a thread and back takes about 100 µs here; 4,000 pairs of 48 factors take 150 µs.
QUICK_PAIRS = 4_000
QUICK_CELLS = 1 << 20  # of one list: 80,000 cells (ml-100k) take 40 µs, a million about 200 µs
QUICK_ROWS = 2_000  # of a table that is searched: 60 µs


class Worker:
    """One thread. `seconds` is the time limit of a request, `torch_threads` the number of torch's threads on it."""

    def __init__(self, name: str, seconds: float, torch_threads: int = 1) -> None:
        self.seconds = seconds
        self.executor = ThreadPoolExecutor(1, name, torch.set_num_threads, (torch_threads,))

    async def run(self, work: Callable[[], T], *, quick: bool) -> T:
        """Do some work: here if it is quick, else on the thread. Raises DeadlineExceededError."""
        if quick:
            return work()
        return await within(self.seconds, self.run_unlimited(work, quick=False))

    async def run_unlimited(self, work: Callable[[], T], *, quick: bool) -> T:
        """The same for work that no request waits for: it has no time limit."""
        if quick:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    def close(self) -> None:
        """Finish the work in progress and end the thread."""
        self.executor.shutdown()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """The result of some work. Raises DeadlineExceededError, with the work cancelled, if it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise DeadlineExceededError(f"no answer within {seconds:g} seconds") from None


async def unless_cancelled(work: Coroutine[Any, Any, T], cancelled: Cancelled | None) -> T:
    """The result of some work. Raises CancelledRequestError, with the work cancelled, if `cancelled` ends first."""
    if cancelled is None:
        return await work
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(cancelled())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CancelledRequestError("the client closed its connection before its answer was ready")
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.wait((task, watch))
