"""CPU threads, and the memory of a fit: how much is free, and how much was used."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def use_threads(threads: int | None) -> int:
    """Set the number of CPU threads, by default all cores, and return it."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def available_memory(device: torch.device) -> int:
    """Bytes that are free: on the device if that is CUDA, else on this machine or in this container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(psutil.virtual_memory().available, *(_left_in(group) for group in CGROUPS))


def _left_in(group: tuple[Path, Path]) -> int:
    """Bytes below a control group's limit; a very large number if there is no limit."""
    try:
        limit, used = (int(file.read_text()) for file in group)
    except (OSError, ValueError):
        return sys.maxsize
    return limit - used


def peak_memory_mb(device: torch.device) -> float:
    """The most memory used so far in MB: of the device where that is CUDA, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
