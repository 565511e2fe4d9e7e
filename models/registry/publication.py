"""Publishing in a directory: a version appears there in one step, or nothing does.

The order (`docs/checkpoint-format.md`): write into a staging directory, flush every file, rename, point CURRENT.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from models.checkpoint import writer
from models.checkpoint.manifest import Manifest
from models.checkpoint.writer import Draft
from models.errors import PublicationError
from models.registry.directory import CURRENT, published

LOCK, STAGING = ".lock", ".staging-"


def publish(directory: Path, draft: Draft, *, activate: bool = True) -> Manifest:
    """Write `draft` as a new version in `directory`, make it the current one, and return its manifest.

    One process publishes at a time; others wait. With `activate` false CURRENT stays, unless there is none. Raises
    PublicationError, with nothing published and nothing left behind, when the files cannot be written (no room, no
    permission).
    """
    with reporting(f"cannot publish to {directory}", "nothing was published"):
        directory.mkdir(parents=True, exist_ok=True)
        with only_publisher(directory), staging(directory) as staged:
            manifest = writer.write(staged, draft, next_number(published(directory)))
            put_in_place(directory, staged, manifest.version, activate=activate)
            return manifest


@contextmanager
def reporting(failure: str, consequence: str) -> Iterator[None]:
    """Turn what the file system and the writers of files raise into a PublicationError of one line."""
    try:
        yield
    except (OSError, SafetensorError, pa.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise PublicationError(f"{failure}: {reason}; {consequence}") from error


@contextmanager
def only_publisher(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, and remove what a killed publisher left behind: nobody can still be writing it."""
    with (directory / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_behind in directory.glob(f"{STAGING}*"):
            _remove(left_behind)
        yield


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A directory to write into, which no reader looks at. What is left there when the block fails is removed."""
    staged = directory / f"{STAGING}{secrets.token_hex(4)}"
    staged.mkdir()
    try:
        yield staged
    except BaseException:
        for left_behind in directory.glob(f"{STAGING}*"):
            _remove(left_behind)
        raise


def next_number(before: Iterable[Manifest]) -> int:
    """One more than the number of the last version. Clocks may jump; the order of publication does not."""
    return max((manifest.number for manifest in before), default=0) + 1


def put_in_place(directory: Path, staged: Path, version: str, *, activate: bool) -> None:
    """Flush what was staged, give it its name, and point CURRENT at it. The caller holds the lock."""
    _make_readable(staged)
    _flush(staged)
    activate = activate or not (directory / CURRENT).exists()
    pointer = write_pointer(directory, version) if activate else None  # now: with no room for it, nothing may appear
    staged.rename(directory / version)
    flush_directory(directory)
    if pointer is not None:
        replace_current(directory, pointer)


def write_pointer(directory: Path, version: str) -> Path:
    """A file that is ready to become CURRENT."""
    file = directory / f"{STAGING}{CURRENT}"
    try:
        file.write_text(f"{version}\n", "utf-8")
        _make_readable(file)
        _flush_file(file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file


def replace_current(directory: Path, pointer: Path) -> None:
    """Make such a file CURRENT, in one step."""
    pointer.rename(directory / CURRENT)
    flush_directory(directory)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _make_readable(path: Path) -> None:
    """Let the service read the checkpoint under another account; some writers create files for their owner alone."""
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() else 0o644)


def _flush(path: Path) -> None:
    """Flush every file and directory below `path`, and `path` itself, to the disk."""
    for entry in path.rglob("*"):
        flush_directory(entry) if entry.is_dir() else _flush_file(entry)
    flush_directory(path)


def _flush_file(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def flush_directory(path: Path) -> None:
    """Flush the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
