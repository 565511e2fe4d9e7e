"""The check that a file can be read, with a message that says why not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from models.did_you_mean import did_you_mean
from training.errors import DataError


def check_file(path: Path) -> None:
    """Raise `DataError` unless `path` is a readable file with something in it."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a directory, not a file")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise DataError(f"{path}: the file is empty")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{did_you_mean(path.name, _beside(path))}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _beside(path: Path) -> list[str]:
    """The names of the other files in its folder."""
    with suppress(OSError):
        return [other.name for other in path.parent.iterdir() if other.is_file()]
    return []
