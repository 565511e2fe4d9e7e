"""A checkpoint directory behind a URL: `s3://…`, `gs://…`, `ftp://…`, `file://…`, whatever fsspec opens.

Object stores have neither renames nor locks, so the order of writes matters. The manifest is written after all other
files, and CURRENT after it. The manifest of a version is deleted first: files without a manifest are not a version.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fsspec.core import url_to_fs

from models.checkpoint.files import MANIFEST, MAX_MANIFEST_BYTES, MAX_POINTER_BYTES, hash_file, verify_hash, verify_size
from models.checkpoint.manifest import VERSION_NAME, Manifest
from models.checkpoint.reader import parse_manifest, read_manifest
from models.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    PublicationError,
    RemoteError,
)
from models.registry import last_fit as last_fits
from models.registry import served
from models.registry import split as splits
from models.registry.directory import CURRENT, next_number, superseded, verify
from models.registry.last_fit import LAST_FIT, LastFit
from models.registry.served import SERVED
from models.registry.split import SPLIT, Split, is_of
from models.urls import explained, without_secrets

NO_VERSIONS = (CURRENT, SERVED, SPLIT, LAST_FIT)
IDLE_SECONDS = 60.0  # after which a server may have closed the connection


class RemoteRegistry:
    """Reads and writes the checkpoints below a URL. Several threads may use it; they wait for one another."""

    def __init__(self, url: str) -> None:
        self.name = without_secrets(url).rstrip("/")  # for messages
        self._url = url
        self._opened: tuple[Any, str] | None = None
        self._used_at = 0.0
        self._manifests: dict[str, Manifest] = {}
        self._lock = threading.RLock()

    def current(self) -> str:
        """The version that CURRENT names. Raises CheckpointNotFoundError if nothing has been published."""
        try:
            text = self._read(CURRENT, MAX_POINTER_BYTES)
        except FileNotFoundError:
            raise CheckpointNotFoundError(f"no checkpoint has been published in {self.name}") from None
        name = text.decode("utf-8", "replace").strip()
        if not VERSION_NAME.fullmatch(name):
            raise CheckpointCorruptError(f"{self.name}/{CURRENT} does not contain the name of a version")
        return name

    def served_before(self) -> list[str]:
        """The versions that were served before the current one, oldest first; some may have been pruned since."""
        return served.before(self._served(), self._current_or_none())

    def versions(self) -> list[str]:
        """Names of the versions, readable or not, also of those that are being written or deleted."""
        with self._files() as (files, root):
            try:
                names = [str(entry["name"]).rstrip("/").rpartition("/")[2] for entry in files.ls(root, detail=True)]
            except FileNotFoundError:
                return []
        return sorted(name for name in names if VERSION_NAME.fullmatch(name) and name not in NO_VERSIONS)

    def published(self) -> list[Manifest]:
        """The manifests that can be read, in the order in which their versions were published."""
        found = {}
        for version in self.versions():
            with suppress(CheckpointCorruptError, CheckpointNotFoundError):
                found[version] = self._manifests.get(version) or self._manifest(version)[1]
        self._manifests = found
        return sorted(found.values(), key=lambda manifest: (manifest.number, manifest.created_at))

    def fetch(self, version: str, path: Path) -> None:
        """Download a version into the new directory `path`, and check sizes and hashes.

        Raises a CheckpointError that names the file; files that were downloaded before stay.
        """
        text, manifest = self._manifest(version)
        with self._files() as (files, root):  # an incomplete version is refused before anything is downloaded
            for name, entry in manifest.files.items():
                size = self._found(files.info, f"{root}/{version}/{name}").get("size")
                if size is not None:
                    verify_size(f"{self.name}/{version}/{name}", size, entry)
        path.mkdir(parents=True)
        needed, free = sum(entry.bytes for entry in manifest.files.values()), shutil.disk_usage(path).free
        if needed > free:
            raise RemoteError(f"{self.name}/{version} needs {needed:,} bytes, but {free:,} are free in {path.parent}")
        for folder in {(path / name).parent for name in manifest.files}:
            folder.mkdir(exist_ok=True)
        with self._files() as (files, root):
            names = [*manifest.files]
            self._found(files.get, [f"{root}/{version}/{name}" for name in names], [str(path / name) for name in names])
        for name, entry in manifest.files.items():
            file, shown = path / name, f"{self.name}/{version}/{name}"
            verify_size(shown, file.stat().st_size, entry)
            verify_hash(shown, hash_file(file), entry)
        (path / MANIFEST).write_bytes(text)

    def add(self, path: Path, *, current: bool = True) -> Manifest:
        """Verify the version in the local directory `path`, publish it, and make it current.

        Raises PublicationError or RemoteError, with nothing published, if it is already there or cannot be written,
        another CheckpointError if it is damaged.
        """
        verify(path)
        before = self.published()
        if path.name in (manifest.version for manifest in before):
            raise PublicationError(f"{self.name} already has a version {path.name}; nothing was published")
        manifest = read_manifest(path).model_copy(update={"number": next_number(before)})
        sent = [*manifest.files]
        with self._files() as (files, root):
            for folder in sorted({f"{root}/{path.name}/{name}".rpartition("/")[0] for name in sent}):
                files.makedirs(folder, exist_ok=True)
            files.put([str(path / name) for name in sent], [f"{root}/{path.name}/{name}" for name in sent])
            files.pipe_file(f"{root}/{path.name}/{MANIFEST}", manifest.to_json())
        if current or not before:
            self.make_current(manifest.version)
        return manifest

    def make_current(self, version: str, *, back: bool = False) -> None:
        """Make a version that the caller has verified the current one; `back` where it was served before."""
        self._manifest(version)
        change = served.going_back if back else served.going_on
        names = change(self._served(), self._current_or_none(), version)
        with self._files() as (files, root):
            files.pipe_file(f"{root}/{SERVED}", served.to_text(names).encode())
            files.pipe_file(f"{root}/{CURRENT}", f"{version}\n".encode())
        if is_of(self._split_or_none(), version):
            self.set_split(None)

    def split(self) -> Split | None:
        """The split that the registry names; None if there is none. That of the current version is over."""
        with suppress(FileNotFoundError):
            return splits.parse(self._read(SPLIT, splits.MAX_BYTES).decode("utf-8", "replace"), f"{self.name}/{SPLIT}")
        return None

    def set_split(self, split: Split | None) -> None:
        """Begin a split with a version that the caller has verified, or change its share; None ends it."""
        if split is not None:
            self._manifest(split.version)
        with suppress(FileNotFoundError), self._files() as (files, root):
            if split is None:
                files.rm_file(f"{root}/{SPLIT}")
            else:
                files.pipe_file(f"{root}/{SPLIT}", splits.to_text(split).encode())

    def last_fit(self) -> LastFit | None:
        """How the last fit ended; None if none was noted."""
        with suppress(FileNotFoundError):
            return last_fits.parse(self._read(LAST_FIT, last_fits.MAX_BYTES), f"{self.name}/{LAST_FIT}")
        return None

    def note_fit(self, fit: LastFit) -> None:
        """Let LAST_FIT say how a fit ended."""
        with self._files() as (files, root):
            files.pipe_file(f"{root}/{LAST_FIT}", fit.to_text().encode())

    def activate(self, version: str, *, back: bool = False) -> None:
        """Download and verify a version, then make it the current one."""
        with self.local(version) as path:
            verify(path)
        self.make_current(version, back=back)

    def prune(self, keep: int) -> list[str]:
        """Delete all but the last `keep` versions, the current one and that of a split, and return their names.

        Services have copies.
        """
        current, split = self.current(), self._split_or_none()
        old = [version for version in superseded(self.published(), current, keep) if not is_of(split, version)]
        for version in old:
            with self._files() as (files, root):
                files.rm_file(f"{root}/{version}/{MANIFEST}")
                files.rm(f"{root}/{version}", recursive=True)
        return old

    @contextmanager
    def local(self, version: str | None) -> Iterator[Path]:
        """A local copy of a version, by default the current one, in a directory of its name, during the block."""
        name = version or self.current()
        with TemporaryDirectory(prefix="ratecast-") as folder:
            self.fetch(name, Path(folder) / name)
            yield Path(folder) / name

    def _served(self) -> list[str]:
        with suppress(FileNotFoundError):
            return served.parse(self._read(SERVED, served.MAX_BYTES).decode("utf-8", "replace"))
        return []

    def _current_or_none(self) -> str | None:
        with suppress(CheckpointCorruptError, CheckpointNotFoundError):
            return self.current()
        return None

    def _split_or_none(self) -> Split | None:
        with suppress(CheckpointCorruptError):
            return self.split()
        return None

    def _manifest(self, version: str) -> tuple[bytes, Manifest]:
        """The manifest as bytes, and parsed. Raises CheckpointNotFoundError, or another CheckpointError."""
        if VERSION_NAME.fullmatch(version):
            with suppress(FileNotFoundError):
                text = self._read(f"{version}/{MANIFEST}", MAX_MANIFEST_BYTES)
                return text, parse_manifest(text, f"{self.name}/{version}/{MANIFEST}", version)
        raise CheckpointNotFoundError(f"no version {version!r} in {self.name}")

    def _read(self, name: str, most: int) -> bytes:
        with self._files() as (files, root):
            content: bytes = files.cat_file(f"{root}/{name}", 0, most + 1)
        if len(content) > most:
            raise CheckpointCorruptError(f"{self.name}/{name} is larger than {most} bytes")
        return content

    def _found(self, ask: Any, wanted: str | Sequence[str], *arguments: Any) -> Any:
        try:
            return ask(wanted, *arguments)
        except FileNotFoundError as error:
            name = wanted if isinstance(wanted, str) else str(error)
            raise CheckpointCorruptError(f"{self.name}: a file of the manifest is missing: {name}") from error

    @contextmanager
    def _files(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path of the directory in it, for one thread at a time.

        Each file system has its own errors. They become RemoteError, except FileNotFoundError, and the next
        use opens a new connection.
        """
        with self._lock:
            try:
                if self._opened is None or time.monotonic() - self._used_at > IDLE_SECONDS:
                    files, root = url_to_fs(self._url, skip_instance_cache=True, use_listings_cache=False)
                    self._opened = files, root.rstrip("/")
                yield self._opened
                self._used_at = time.monotonic()
            except CheckpointError:
                raise
            except FileNotFoundError:
                self._opened = None
                raise
            except Exception as error:
                self._opened = None
                raise RemoteError(f"{self.name} cannot be used: {explained(error, self._url)}") from error
