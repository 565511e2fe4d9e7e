"""Turns the names of devices, as users write them, into devices for a model."""

from __future__ import annotations

from typing import NamedTuple

import torch

from models.errors import DeviceUnavailableError

CPU = torch.device("cpu")


class DevicePlacement(NamedTuple):
    """The devices of a model: `device`, except for the items' tables, which are spread over the `shards`, if any."""

    device: torch.device
    shards: tuple[torch.device, ...] = ()  # of one kind, in the order of the items

    @property
    def is_cpu_alone(self) -> bool:
        return self.device.type == "cpu" and not self.shards

    def __str__(self) -> str:
        return ",".join(map(str, self.shards or (self.device,)))


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA if it is available. Raises DeviceUnavailableError."""
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
    """One device, or several of one kind separated by commas, over which the items are spread.

    Everything else then stays in the host's memory, as mapped files. Raises DeviceUnavailableError.
    """
    devices = [choose_device(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1 or (len(devices) > 1 and "auto" in names):
        raise DeviceUnavailableError(f"no devices {names!r}: several devices must be all cpu, or all cuda or cuda:N")
    return DevicePlacement(devices[0]) if len(devices) == 1 else DevicePlacement(CPU, tuple(devices))
