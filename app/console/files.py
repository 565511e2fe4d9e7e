"""The files of the console: what is served under which path. Read once, when the service starts."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).with_name("static")
PREFIX = "/console/"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
NAMES = tuple(
    sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in TYPES and path.is_file())
)
PATHS: Mapping[str, str] = {("/" if name == INDEX else PREFIX + name): name for name in NAMES}


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent, plain and compressed."""

    body: bytes
    compressed: bytes
    etag: str
    media_type: str


def read_files() -> Mapping[str, File]:
    """Every file of the console by its path."""
    return {path: _read(STATIC / name) for path, name in PATHS.items()}


def _read(path: Path) -> File:
    body = path.read_bytes()
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'  # weak: the same for both encodings
    return File(body, gzip.compress(body, mtime=0), etag, TYPES[path.suffix])
