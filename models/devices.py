"""Which devices a model is put on, by the names that people give them."""

from __future__ import annotations

from typing import NamedTuple

import torch

from models.errors import DeviceUnavailableError

CPU = torch.device("cpu")


class DevicePlacement(NamedTuple):
    """Where a model lives: on `device`, but for the items' tables, which are spread over the `shards`, if any."""

    device: torch.device
    shards: tuple[torch.device, ...] = ()  # of one kind, in the order of the items

    @property
    def is_cpu_alone(self) -> bool:
        return self.device.type == "cpu" and not self.shards

    def __str__(self) -> str:
        return ",".join(map(str, self.shards or (self.device,)))


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
    """One device, or several of one kind separated by commas, over which the items are spread.

    The host then keeps all that is not spread, as mapped files. Raises DeviceUnavailableError.
    """
    devices = [choose_device(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1 or (len(devices) > 1 and "auto" in names):
        raise DeviceUnavailableError(f"no devices {names!r}: several are all cpu, or all cuda or cuda:N")
    return DevicePlacement(devices[0]) if len(devices) == 1 else DevicePlacement(CPU, tuple(devices))
