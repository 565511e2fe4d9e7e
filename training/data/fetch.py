"""Downloads archives into a cache, completely and with the recorded sha256, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess  # pip, of the interpreter that runs  # nosec B404
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from training.errors import DataError, SourceUnavailableError
from training.progress import terminal

TIMEOUT = httpx.Timeout(30, connect=5)  # seconds; a blocked network must not delay the second source for long
HEADERS = {"Accept-Encoding": "identity"}  # the bytes of the file, whose sha256 is recorded
STALE_SECONDS = 24 * 3600  # longer than any download; an older folder is left from a killed process


@dataclass(frozen=True, slots=True)
class Download:
    """A file behind a URL."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.url

    def download(self, part: Path) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        try:
            with (
                httpx.stream("GET", self.url, headers=HEADERS, follow_redirects=True, timeout=TIMEOUT) as response,
                part.open("wb") as file,
                Progress(*columns, console=terminal(), transient=True) as progress,
            ):
                response.raise_for_status()
                size = response.headers.get("content-length")
                task = progress.add_task(part.name, total=None if size is None else int(size))
                for chunk in response.iter_raw():
                    file.write(chunk)
                    progress.advance(task, len(chunk))
        except httpx.HTTPStatusError as error:
            raise SourceUnavailableError(f"{self}: the server answers {error.response.status_code}") from error
        except httpx.HTTPError as error:
            raise SourceUnavailableError(f"{self}: {error or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that pip downloads from its configured package index, without installing it."""

    requirement: str
    file_name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.requirement} from the package index"

    def download(self, part: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--retries=1", "--disable-pip-version-check", f"--dest={part.parent}", self.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - nothing of it is the user's  # nosec B603
        if done.returncode or not part.is_file():
            said = done.stderr.strip().splitlines() or ["pip failed without a message"]
            raise SourceUnavailableError(f"{self}: {said[-1].removeprefix('ERROR: ')}")


def default_cache() -> Path:
    """The folder `RATECAST_CACHE` names, else `ratecast` where the platform keeps a user's caches."""
    if named := os.environ.get("RATECAST_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ratecast" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ratecast"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ratecast"


def fetch(source: Download | Wheel, cache: Path) -> Path:
    """The source's file in the cache, downloaded unless it is there and its sha256 is right.

    Raises SourceUnavailableError, with nothing left in the cache, if it cannot be downloaded or has another sha256, and
    DataError if the cache cannot be written.
    """
    target = cache / source.file_name
    try:
        if target.is_file() and _sha256(target) == source.sha256:
            return target
        cache.mkdir(parents=True, exist_ok=True)
        for folder in cache.glob(".fetch-*"):
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        with TemporaryDirectory(prefix=".fetch-", dir=cache) as temporary:
            part = Path(temporary) / source.file_name
            source.download(part)
            if (found := _sha256(part)) != source.sha256:
                raise SourceUnavailableError(f"{source}: its sha256 is {found}, not {source.sha256} as recorded")
            part.replace(target)
    except OSError as error:
        raise DataError(
            f"{cache}: cannot be written ({error.strerror or error}); set RATECAST_CACHE to another folder"
        ) from error
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
