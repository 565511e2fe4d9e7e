"""The memory of a worker: glibc keeps little of what is freed, and Python seldom looks for cycles among all objects.

By default glibc has up to eight arenas a core, one for each thread that computes, and what is freed in one is of no use
to the others. Reading bodies of 16 MB on threads left several hundred MB behind.
"""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa

ARENAS = 2
M_ARENA_MAX = -8  # of malloc.h
RARELY = 1_000  # collections of the second generation before one of all objects: 7 million more objects than are freed


def limit_arenas() -> None:
    """Let the threads that this process starts share a few arenas."""
    if (set_option := _function("mallopt")) is not None:
        set_option(M_ARENA_MAX, ARENAS)


def collect_rarely() -> None:
    """Look for cycles only among objects that are new from now on, and rarely among all of these.

    While 100,000 items of a body were read, two collections of all objects kept the event loop waiting for 60 ms each.
    Without those that were imported and loaded, reading a million items takes half the time. There are 300,000 of them,
    2 % in cycles: finding these would take 0.3 s of the start.
    """
    gc.freeze()
    gc.enable()  # `app.__main__` disables it for the imports
    gc.set_threshold(*gc.get_threshold()[:2], RARELY)


def release_memory() -> None:
    """Collect cycles, and give memory that was freed back to the system. It takes some milliseconds."""
    gc.collect()
    give_back()


def give_back() -> None:
    """Give memory that was freed back to the system."""
    pa.default_memory_pool().release_unused()
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None)
