"""Which devices a model is put on, by the names that people give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from models.errors import DeviceUnavailableError

CPU = torch.device("cpu")


class DevicePlacement(NamedTuple):
    """Where a model lives.

    Attributes:
        device: all of it, but for the items' tables where there are shards.
        shards: devices of one kind over which these are spread, in the order of the items; none where they are not.
    """

    device: torch.device
    shards: tuple[torch.device, ...] = ()

    @classmethod
    def over(cls, devices: Sequence[torch.device]) -> DevicePlacement:
        """One device, or the items over several. The host then keeps all that is not spread, as mapped files."""
        return cls(devices[0]) if len(devices) == 1 else cls(CPU, tuple(devices))

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
    """One device, or several of one kind separated by commas. Raises DeviceUnavailableError."""
    devices = [choose_device(name) for name in names.split(",")]
    if len({device.type for device in devices}) > 1 or (len(devices) > 1 and "auto" in names):
        raise DeviceUnavailableError(f"no devices {names!r}: several are all cpu, or all cuda or cuda:N")
    return DevicePlacement.over(devices)
