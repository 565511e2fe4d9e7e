"""Finds the files of a source, on this machine or behind a URL, and reads each by its content.

A folder or a pattern means all its files in the order of their names. Files whose names begin with `_` or `.`,
as Spark writes beside the data, are left out.
"""

from __future__ import annotations

import io
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import fsspec
from fsspec import AbstractFileSystem

from models.did_you_mean import did_you_mean
from models.urls import is_url, without_password
from training.data import columnar, delimited, json_lines
from training.data.compression import SUFFIXES, Opener, decompressed, kind_of
from training.data.dialect import encoding_of
from training.data.origin import Origin, Selection
from training.data.validation import Part
from training.errors import ConfigError, DataError
from training.options import SourceOptions

log = logging.getLogger(__name__)
STANDARD_INPUT = "-"
HEAD_BYTES = 1 << 12
WILDCARDS = set("*?[")


@dataclass(frozen=True, slots=True)
class File:
    """A file: its name for messages, how to open it, and its path where it is on this machine."""

    name: str
    open: Opener
    path: str | None = None


def found(source: str) -> list[File]:
    """The files of a source: a path, a folder, a pattern, a URL of these, or `-`. Raises DataError if there is none."""
    if source == STANDARD_INPUT:
        return [File("standard input", _standard_input().open)]
    if not is_url(source):
        return _local(Path(source))
    with reachable(source):
        system, path = fsspec.url_to_fs(source)
        return [
            File(without_password(system.unstrip_protocol(file)), partial(_open, system, file))
            for file in files_of(system, path, without_password(source))
        ]


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Turn errors of file systems into a DataError that names the URL without its password."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"{without_password(url)}: {error}") from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{without_password(url)}: cannot be read ({without_password(reason)})") from error


def files_of(system: AbstractFileSystem, path: str, name: str) -> list[str]:
    """The files of a folder or pattern in the order of their names, or the one file. Raises DataError for none."""
    if WILDCARDS & set(path) and not system.exists(path):
        files = [file for file in system.glob(path) if not system.isdir(file)]
    elif not system.exists(path):
        raise DataError(f"{name}: no such file or folder")
    elif system.isdir(path):
        files = [file for file in system.find(path) if not _is_hidden(file.removeprefix(path))]
    else:
        return [path]
    if not files:
        raise DataError(f"{name}: no files")
    return sorted(files)


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in PurePosixPath(relative).parts)


def _local(path: Path) -> list[File]:
    system = fsspec.filesystem("file")
    if not path.exists() and not WILDCARDS & set(str(path)):
        others: list[str] = []
        with suppress(OSError):
            others = [other.name for other in path.parent.iterdir() if other.is_file()]
        raise DataError(f"{path}: no such file or folder{did_you_mean(path.name, others)}")
    names = [str(path)] if path.is_file() else files_of(system, str(path), str(path))
    return [File(name, partial(_open_local, name), name) for name in names]


def _open_local(name: str) -> IO[bytes]:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error


def _open(system: AbstractFileSystem, path: str) -> IO[bytes]:
    return cast("IO[bytes]", system.open(path, "rb"))


@cache
def _standard_input() -> Spooled:
    """A copy of standard input, which can be read only once, while readers open a file several times."""
    file = tempfile.NamedTemporaryFile(prefix="ratecast-")  # noqa: SIM115 - it lives as long as the process
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.flush()
    return Spooled(file)


class Spooled:
    """A temporary file that can be opened again and again."""

    def __init__(self, file: tempfile._TemporaryFileWrapper[bytes]) -> None:
        self._file = file

    def open(self) -> IO[bytes]:
        return Path(self._file.name).open("rb")


def read(file: File, options: SourceOptions, selection: Selection) -> Part:
    """The selected columns of a file under our names. Raises DataError or ConfigError."""
    with file.open() as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise DataError(f"{file.name}: the file is empty")
    name, opener, path = PurePosixPath(file.name), file.open, file.path
    if kind := kind_of(head):
        opener, path = decompressed(opener, kind, file.name), None
        with opener() as stream:
            head = stream.read(HEAD_BYTES)
    elif name.suffix.lower() in SUFFIXES:
        raise DataError(f"{file.name}: not a {SUFFIXES[name.suffix.lower()]} file")
    suffixes = [suffix.lower() for suffix in name.suffixes if suffix.lower() not in SUFFIXES]
    origin = Origin(file.name)
    if head.startswith(columnar.PARQUET):
        _refuse_text_options(options, "a Parquet file")
        log.info("%s: Parquet", file.name)
        return columnar.parquet_batches(lambda: path or _seekable(opener), selection, origin), origin
    if head.startswith((columnar.ARROW, columnar.STREAM)):
        _refuse_text_options(options, "an Arrow file")
        log.info("%s: Arrow", file.name)
        return columnar.arrow_batches(partial(_seekable, opener), selection, origin), origin
    encoding = encoding_of(head, options)
    beginning = "".join(head.decode(encoding, "replace").removeprefix("\ufeff").split())
    if beginning.startswith("[{"):
        raise DataError(f"{file.name}: a JSON array; write one object per line (JSON lines)")
    if beginning.startswith("{"):
        log.info("%s: JSON lines, %s", file.name, encoding)
        return json_lines.batches(opener, encoding, selection, origin)
    dialect = delimited.dialect_of(opener, file.name, suffixes[-1] if suffixes else "", options, selection)
    log.info("%s: %s%s", file.name, dialect, f", {kind}" if kind else "")
    table, origin = delimited.read(opener, file.name, dialect, selection)
    return table.to_batches(), origin


def _seekable(opener: Opener) -> IO[bytes]:
    """A seekable stream; compressed content is decompressed in memory."""
    stream = opener()
    if stream.seekable():
        return stream
    with stream:
        return io.BytesIO(stream.read())


def is_parquet(file: File) -> bool:
    """Whether a file is Parquet as it stands, uncompressed."""
    with file.open() as stream:
        return stream.read(len(columnar.PARQUET)) == columnar.PARQUET


def _refuse_text_options(options: SourceOptions, what: str) -> None:
    if options.separator or not options.header or options.encoding:
        raise ConfigError(f"--separator, --no-header and --encoding are for texts, but the data is {what}")
