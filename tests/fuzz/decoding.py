"""A program that decodes: `python -m tests.fuzz.decoding DECODER FOLDER`, once for each file in the folder.

It says, a line each, the name of the file before it is decoded and what came of it: `read`,
`refused`, or what should not have come: another error, or memory. A decoder that crashes or hangs takes this process,
and its file is the last.
"""

from __future__ import annotations

import faulthandler
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.api.encodings import arrow, json, msgpack
from models.checkpoint import golden, reader
from models.checkpoint.files import MANIFEST
from models.errors import CheckpointError
from models.registry.directory import CURRENT, current_version, load
from tests.support.checkpoints import replace_file
from tests.support.reading import read
from training.data import attributes, described
from training.errors import TrainingError
from training.options import SourceOptions

MOST = 100_000

MEMORY = 64 << 20  # bytes; no input has a tenth of that
SECONDS = 20
RATINGS = (
    "csv",
    "tsv",
    "data",
    "dat",
    "csv.gz",
    "csv.zst",
    "csv.bz2",
    "csv.xz",
    "csv.zip",
    "parquet",
    "arrow.file",
    "jsonl",
)
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def _checkpoint_file(path: Path) -> None:
    """The file is one of a checkpoint beside the folder, and its hash is right: who made it could make that too."""
    name = path.name.partition("@")[2]
    directory = path.parent.parent / "checkpoints"
    version = directory / current_version(directory)
    valid, manifest = (version / name).read_bytes(), (version / MANIFEST).read_bytes()
    try:
        replace_file(version, name, path.read_bytes())
        loaded = load(directory)
        golden.check_model(loaded)
        for vocabulary in (loaded.users, loaded.items):
            vocabulary.rows(["1", "nobody", "", "\0", "\ud800"])
    finally:
        (version / name).write_bytes(valid)
        (version / MANIFEST).write_bytes(manifest)


def _manifest(path: Path) -> None:
    version = path.parent / "version"
    version.mkdir(exist_ok=True)
    (version / MANIFEST).write_bytes(path.read_bytes())
    reader.read_manifest(version)


def _current(path: Path) -> None:
    directory = path.parent / "directory"
    directory.mkdir(exist_ok=True)
    (directory / CURRENT).write_bytes(path.read_bytes())
    load(directory)


def _attributes(path: Path) -> None:
    matrix = attributes.encode(described.read_attributes(str(path), "item", SourceOptions()), pa.array(["a", "1", "b"]))
    assert matrix is None or np.isfinite(matrix).all()


def _ratings(path: Path) -> None:
    assert read(path).rows > 0


DECODERS: dict[str, tuple[Callable[[Path], object], tuple[type[Exception], ...]]] = {
    "json": (lambda path: json.Decoder(256)(path.read_bytes()), ()),
    "msgpack": (lambda path: msgpack.decode(path.read_bytes(), MOST), (ValueError,)),
    "arrow": (lambda path: arrow.decode(path.read_bytes(), MOST), (ValueError,)),
    **dict.fromkeys(RATINGS, (_ratings, (TrainingError,))),
    "attributes.csv": (_attributes, (TrainingError,)),
    "attributes.parquet": (_attributes, (TrainingError,)),
    "manifest": (_manifest, (CheckpointError,)),
    "current": (_current, (CheckpointError,)),
    "checkpoint": (_checkpoint_file, (CheckpointError,)),
}


def main(decoder: str, folder: str) -> None:
    warnings.simplefilter("error")
    faulthandler.enable()
    decode, refusals = DECODERS[decoder]
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    _outcome(decode, refusals, paths[0])  # what libraries take when they are first used is not taken by an input
    for path in paths:
        print(path.name, end=" ", flush=True)  # noqa: T201
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        before = _forget_peak()
        outcome = _outcome(decode, refusals, path)
        taken = _peak() - before
        print(outcome if taken < MEMORY else f"{outcome}, with {taken >> 20} MB of memory")  # noqa: T201
    faulthandler.cancel_dump_traceback_later()


def _outcome(decode: Callable[[Path], object], refusals: tuple[type[Exception], ...], path: Path) -> str:
    try:
        decode(path)
    except refusals as error:
        return "refused" if str(error) and "\n" not in str(error) else f"says nothing in one line: {error!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    return "read"


def _forget_peak() -> int:
    """Let the most memory that this process has had be what it has now; gives that, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    found = _PEAK.search(Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


if __name__ == "__main__":
    main(*sys.argv[1:])
