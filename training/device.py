"""The device and the CPU threads of a job, and how much memory it has."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

from models.sharding import DevicePlacement
from training.errors import ConfigError

CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def choose_device(wish: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises ConfigError for a device that is not there."""
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise ConfigError(f"no device {wish!r}: use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"no device {wish!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no device {wish!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def choose_place(wish: str) -> DevicePlacement:
    """One device, or several of one kind separated by commas. Raises ConfigError for one that is not there."""
    devices = [choose_device(name) for name in wish.split(",")]
    if len({device.type for device in devices}) > 1 or (len(devices) > 1 and "auto" in wish):
        raise ConfigError(f"no devices {wish!r}: several are all cpu, or all cuda or cuda:N")
    return DevicePlacement.over(devices)


def use_threads(wish: int | None) -> int:
    """Set the number of CPU threads, by default all cores, and return it."""
    if wish is not None:
        torch.set_num_threads(wish)
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
