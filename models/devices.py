"""Which devices a model is put on, by the names that people give them."""

from __future__ import annotations

import torch

from models.errors import DeviceUnavailableError
from models.sharding import DevicePlacement


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one. Raises DeviceUnavailableError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceUnavailableError(f"no device {name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailableError(f"no device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def choose_placement(names: str) -> DevicePlacement:
    """One device, or several of one kind separated by commas. Raises DeviceUnavailableError."""
    devices = [choose_device(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1 or (len(devices) > 1 and "auto" in names):
        raise DeviceUnavailableError(f"no devices {names!r}: several are all cpu, or all cuda or cuda:N")
    return DevicePlacement.over(devices)
