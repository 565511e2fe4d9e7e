"""What a rank reads of the ratings of a job."""

from __future__ import annotations

from training.config import JobConfig
from training.distributed.shares import share
from training.parts import Parts, read
from training.ranks import Ranks


def read_share(config: JobConfig, ranks: Ranks) -> Parts:
    """The users of this rank with all their ratings."""
    return share(read(config), ranks)
