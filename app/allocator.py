"""The allocator of glibc: it keeps little of what is freed. Where there is another C library, nothing happens.

By default, it has up to eight arenas a core, one for each thread that computes, and what is freed in one is of no use
to the others. Reading bodies of 16 MB on threads left several hundred MB behind.
"""

from __future__ import annotations

import ctypes

import pyarrow as pa

ARENAS = 2
M_ARENA_MAX = -8  # of malloc.h


def limit_arenas() -> None:
    """Let the threads that this process starts share a few arenas."""
    if (set_option := _function("mallopt")) is not None:
        set_option(M_ARENA_MAX, ARENAS)


def release_memory() -> None:
    """Give memory that was freed back to the system. It takes some milliseconds."""
    pa.default_memory_pool().release_unused()
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None)
