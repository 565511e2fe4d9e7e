"""Threads on which the engine computes what takes longer than handing it to another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from app.engine.errors import DeadlineExceededError

T = TypeVar("T")

# Handing work to a thread and back takes about 100 µs here; 4,000 pairs of 48 factors take 150 µs.
QUICK_PAIRS = 4_000
QUICK_CELLS = 1 << 20  # of one list: 80,000 cells (ml-100k) take 40 µs, a million about 200 µs
QUICK_ROWS = 2_000  # of a table that is searched: 60 µs


class Worker:
    """One thread. `seconds` are those that a request may take, `torch_threads` those of torch's arithmetic on it."""

    def __init__(self, name: str, seconds: float, torch_threads: int = 1) -> None:
        self.seconds = seconds
        self.executor = ThreadPoolExecutor(1, name, torch.set_num_threads, (torch_threads,))

    async def run(self, work: Callable[[], T], *, quick: bool) -> T:
        """Do some work: here where that is quick, else on the thread. Raises DeadlineExceededError."""
        if quick:
            return work()
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except TimeoutError:
            raise DeadlineExceededError.after(self.seconds) from None

    def close(self) -> None:
        """Finish what is under way and end the thread."""
        self.executor.shutdown()
