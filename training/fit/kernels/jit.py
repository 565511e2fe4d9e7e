"""Compiles kernels with numba on first use, keeps them on disk, and runs them on threads.

The compiled code is kept in `__pycache__` beside the source or, if that is not writable, in the user's cache directory.
The environment variable `NUMBA_CACHE_DIR` names another directory (a volume, for a container without either).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core import event
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Ranges = Sequence[tuple[int, int]]  # from a row to before another one
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

log = logging.getLogger(__name__)


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function of arrays and numbers. It releases the interpreter's lock, so threads run in parallel."""
    compiler = partial(njit, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
    try:
        compiled: Any = compiler(cache=True)(function)
    except RuntimeError:  # numba found no writable directory
        log.warning("compiled kernels cannot be kept: set NUMBA_CACHE_DIR to a writable directory")
        compiled = compiler()(function)
    return cast("FunctionT", compiled)


def run_tasks(threads: int, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a kernel once per tuple of arguments, on `threads` threads. Results are in the order of the tasks."""
    if threads == 1 or len(tasks) == 1:
        return [function(*task) for task in tasks]
    return list(_pool(threads).map(lambda task: function(*task), tasks))


def run_ranges(threads: int, function: Callable[..., Any], *arguments: Any, ranges: Ranges) -> list[Any]:
    """Call a kernel once per range, whose ends are its last arguments."""
    return run_tasks(threads, function, [(*arguments, first, last) for first, last in ranges])


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")


class _Announcement(event.Listener):
    """Says once that kernels are being compiled."""

    announced = False

    def on_start(self, started: event.Event) -> None:
        if not self.announced and started.data["dispatcher"].py_func.__module__.startswith("training."):
            self.announced = True
            log.info("compiling kernels; the result is kept on disk for later runs")

    def on_end(self, ended: event.Event) -> None:
        pass


event.register("numba:compile", _Announcement())
