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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import fsspec
from fsspec import AbstractFileSystem

from models.did_you_mean import did_you_mean
from models.urls import explained, is_url, without_secrets
from training.data import columnar, delimited, json_lines, other_formats
from training.data.compression import SUFFIXES, Opener, decompressed, kind_of
from training.data.dialect import encoding_of
from training.data.origin import Origin, Selection
from training.data.validation import Part
from training.errors import ConfigError, DataError
from training.options import SourceOptions

log = logging.getLogger(__name__)
STANDARD_INPUT, STANDARD_INPUT_NAME = "-", "standard input"
AHEAD_BYTES = 1 << 18  # that are read ahead
HEAD_BYTES = 1 << 12
WILDCARDS = set("*?[")
Errors = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class File:
    """A file: its name for messages, how to open it, and its path where it is on this machine."""

    name: str
    open: Opener
    path: str | None = None


def found(source: str) -> list[File]:
    """The files of a source: a path, a folder, a pattern, a URL of these, or `-`. Raises DataError if there is none."""
    if source == STANDARD_INPUT:
        return [File(STANDARD_INPUT_NAME, _standard_input())]
    if not is_url(source):
        return _local(Path(source))
    shown = without_secrets(source)
    with reachable(source, shown):
        system, path = fsspec.url_to_fs(source)
        names = {file: without_secrets(system.unstrip_protocol(file)) for file in files_of(system, path, shown)}
    return [File(name, partial(_open_remote, source, system, file, name)) for file, name in names.items()]


@contextmanager
def reachable(url: str, name: str) -> Iterator[None]:
    """Turn what the file system of a URL raises into a DataError without secrets."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"{name}: {error}") from error
    except DataError:
        raise
    except Exception as error:  # each file system raises errors of its own
        raise DataError(f"{name}: cannot be read ({explained(error, url)})") from error


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
    return [File(name, partial(_open_local, name, name), name) for name in names]


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn an error of a disk into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error


class _NamedFile(io.RawIOBase):
    """A file here or behind a URL. What goes wrong while it is read is a DataError that names it."""

    def __init__(self, file: IO[bytes], errors: Errors) -> None:
        self._file, self._errors = cast("io.FileIO", file), errors

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def _opened(open_file: Callable[[], Any], errors: Errors) -> IO[bytes]:
    with errors():
        file = open_file()
    return cast("IO[bytes]", io.BufferedReader(_NamedFile(file, errors), AHEAD_BYTES))


def _open_local(path: str, name: str) -> IO[bytes]:
    return _opened(partial(io.FileIO, path), partial(_readable, name))


def _open_remote(url: str, system: AbstractFileSystem, path: str, name: str) -> IO[bytes]:
    return _opened(partial(system.open, path, "rb"), partial(reachable, url, name))


@cache
def _standard_input() -> Opener:
    """Standard input can be read once, and what reads it reads it more often: it is copied to a temporary file."""
    file = tempfile.NamedTemporaryFile(prefix="ratecast-")  # noqa: SIM115 - it lives as long as the opener
    with _readable(STANDARD_INPUT_NAME):
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()

    def open_copy() -> IO[bytes]:
        return _open_local(file.name, STANDARD_INPUT_NAME)

    return open_copy


def read(file: File, options: SourceOptions, selection: Selection, *, may_be_empty: bool = False) -> Part:
    """The selected columns of a file under our names. Raises DataError or ConfigError.

    A file without a byte `may_be_empty`: Spark writes one for a part without rows.
    """
    with file.open() as stream:
        head = stream.read(HEAD_BYTES)
    if not head and may_be_empty:
        log.info("%s: the file is empty", file.name)
        return [], Origin(file.name)
    if not head:
        raise DataError(f"{file.name}: the file is empty")
    name, opener, path = PurePosixPath(file.name), file.open, file.path
    if kind := kind_of(head):
        opener, path = decompressed(opener, kind, file.name), None
        with opener() as stream:
            head = stream.read(HEAD_BYTES)
    elif name.suffix.lower() in SUFFIXES:
        raise DataError(f"{file.name}: not a {SUFFIXES[name.suffix.lower()]} file")
    if what := other_formats.named(head):
        raise DataError(f"{file.name}: {what}")
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
