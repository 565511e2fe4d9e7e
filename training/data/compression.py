"""Opens compressed files. It recognises the compression from the first bytes, not from the name.

A file is read completely or refused: if it is truncated, has bytes after its end, or expands too much.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from errno import EINVAL
from typing import IO, Any, cast
from zipfile import BadZipFile, ZipFile

import pyarrow as pa

from training.data.other_formats import archive_named
from training.errors import DataError

Opener = Callable[[], IO[bytes]]
SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz", ".zip": "zip"}
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
PIECE = 1 << 16
DAMAGES = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, BadZipFile, RuntimeError, IndexError, struct.error)
FREE_BYTES = 1 << 24  # that any file may expand to
MOST_EXPANSION = 200  # texts of ratings shrink to a fifth, extremely regular ones to a hundredth


def kind_of(head: bytes) -> str | None:
    """How a file that begins so is compressed; None if it is not."""
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)


def decompressed(opener: Opener, kind: str, name: str) -> Opener:
    """Opens what a compressed file contains. Reading raises DataError where the file is damaged; see `damage_named`."""
    open_kind = {"gzip": _gzip, "zstd": _zstd, "bz2": _bz2, "xz": _xz, "zip": _zip}[kind]

    def open_content() -> IO[bytes]:
        with damage_named(name):
            compressed = opener()
            with ExitStack() as refused:
                refused.callback(compressed.close)
                checked = _Checked(open_kind(compressed, name), compressed, name)
                refused.pop_all()
            return cast("IO[bytes]", io.BufferedReader(checked, PIECE))

    return open_content


class _Checked(io.RawIOBase):
    """The content of a compressed stream. Errors become a DataError that names the file; bombs are refused."""

    def __init__(self, stream: IO[bytes], compressed: IO[bytes], name: str) -> None:
        self._stream, self._compressed, self._name, self._given = stream, compressed, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with damage_named(self._name):
            data = self._stream.read(len(buffer))
        self._given += len(data)
        if self._given > max(FREE_BYTES, MOST_EXPANSION * self._compressed.tell()):
            raise DataError(f"{self._name}: expands to more than {MOST_EXPANSION} times its size; decompress it first")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        self._compressed.close()
        super().close()


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn the errors of decompression into a DataError."""
    try:
        yield
    except EOFError as error:
        raise DataError(f"{name}: the compressed file is truncated") from error
    except DAMAGES as error:
        raise DataError(f"{name}: the compressed file is damaged ({error})") from error
    except (OSError, ValueError) as error:  # of bz2 and of Arrow's zstd; EINVAL of a zip archive's offsets
        if getattr(error, "errno", None) not in (None, EINVAL):
            raise
        truncated = "truncated" in str(error).lower()
        problem = "truncated" if truncated else f"damaged ({error})"
        raise DataError(f"{name}: the compressed file is {problem}") from error


def _gzip(stream: IO[bytes], _: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))


def _zstd(stream: IO[bytes], _: str) -> IO[bytes]:
    return cast("IO[bytes]", pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd"))


def _bz2(stream: IO[bytes], _: str) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(_Streams(stream, bz2.BZ2Decompressor)))


def _xz(stream: IO[bytes], _: str) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(_Streams(stream, lzma.LZMADecompressor)))


def _zip(stream: IO[bytes], name: str) -> IO[bytes]:
    archive = ZipFile(stream)
    if what := archive_named(archive.namelist()):
        raise DataError(f"{name}: {what}")
    members = [member for member in archive.infolist() if not member.is_dir() and "__MACOSX/" not in member.filename]
    if len(members) != 1:
        shown = ", ".join(member.filename for member in members[:5])
        raise DataError(f"{name}: the archive holds {len(members)} files ({shown}), not one; extract the one you mean")
    return archive.open(members[0])


class _Streams(io.RawIOBase):
    """Concatenated compressed streams. The readers of the standard library would drop a damaged one silently."""

    def __init__(self, stream: IO[bytes], new: Callable[[], Any]) -> None:
        self._stream, self._new, self._current, self._rest = stream, new, new(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            if self._current.eof and not self._next_stream():
                return 0
            if self._current.needs_input and not self._rest:
                self._rest = self._stream.read(PIECE)
                if not self._rest:
                    raise EOFError
            data = self._current.decompress(self._rest, len(buffer))
            self._rest = b""
        buffer[: len(data)] = data
        return len(data)

    def _next_stream(self) -> bool:
        """Go on to the next stream, if there is one. Zeros between two are padding."""
        self._rest = self._current.unused_data.lstrip(b"\0")
        while not self._rest and (piece := self._stream.read(PIECE)):
            self._rest = piece.lstrip(b"\0")
        if self._rest:
            self._current = self._new()
        return bool(self._rest)
