"""What a person types: `import ratecast` in a notebook, `ratecast` on the command line. It alone knows all parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratecast.notebook import Model

__all__ = ["open_model"]


def open_model(checkpoints: str, version: str | None = None, *, device: str = "auto") -> Model:
    """Open the current version in a checkpoint directory or behind its URL, or another version; no service is needed.

    Its files are verified, and its predictions compared with those at publication. Raises a CheckpointError if it
    cannot be read, DeviceUnavailableError for a device that is not there.
    """
    from ratecast.notebook import Model

    return Model.open(checkpoints, version, device)
