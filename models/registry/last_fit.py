"""How the last fit ended. The job leaves it in the file `LAST_FIT`, for those who look at the service.

A fit that was refused or failed publishes no version, so no manifest tells of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from models.checkpoint.files import read_small
from models.errors import CheckpointCorruptError

LAST_FIT = "LAST_FIT"
MAX_BYTES = 1 << 16  # of the file
MOST_CHARACTERS = 2_000  # of a reason

Outcome = Literal["published", "refused", "failed"]


class LastFit(BaseModel):
    """The last fit: when it ran, what came of it, and when the next one begins if it is repeated."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    began_at: AwareDatetime
    ended_at: AwareDatetime
    version: str | None
    reason: str | None
    next_at: AwareDatetime | None

    def to_text(self) -> str:
        """The content of the file."""
        return f"{self.model_dump_json()}\n"


def parse(content: bytes, name: str) -> LastFit:
    """The fit of a file's content. Raises CheckpointCorruptError that names the file."""
    try:
        return LastFit.model_validate_json(content)
    except ValidationError:
        raise CheckpointCorruptError(f"{name} does not say how a fit ended") from None


def read(directory: Path) -> LastFit | None:
    """The last fit of a directory; None if none was noted. Raises CheckpointCorruptError or OSError."""
    file = directory / LAST_FIT
    try:
        return parse(read_small(file, MAX_BYTES), str(file))
    except FileNotFoundError:
        return None
