"""Tells whether torchrun started this process, without slow imports."""

from __future__ import annotations

import os


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process prints for all ranks."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"


def ranks_here() -> int:
    """The number of ranks on this host."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if started_by_torchrun() else 1
