"""Where the model lives."""

import torch

from app.engine.errors import DeviceUnavailableError
from models.sharding import DevicePlacement


def choose_place(wish: str) -> DevicePlacement:
    """One device or several, separated by commas. Raises DeviceUnavailableError for one that is not there."""
    return DevicePlacement.over([choose_device(name) for name in wish.split(",")])


def choose_device(wish: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises DeviceUnavailableError for a CUDA device that is not there."""
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wish)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailableError(f"no device {wish!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device
