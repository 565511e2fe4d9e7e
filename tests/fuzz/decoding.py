"""A program that decodes: `python -m tests.fuzz.decoding DECODER FOLDER`, once for each file in the folder.

It says, a line each, the name of the file before it is decoded and what came of it: `read`, `refused`, or the error
that should not have come; at the end by how many bytes its memory grew at most. A decoder that crashes takes this
process.
"""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from app.wire import arrow, json, msgpack
from models import checkpoint, lifecycle
from models.errors import CheckpointError
from tests.support.checkpoints import replace_file
from training.data import delimited, parquet
from training.errors import TrainingError


def _checkpoint_file(path: Path) -> None:
    """The file is one of a checkpoint beside the folder, and its hash is right: who made it could make that too."""
    name = path.name.partition("@")[2]
    directory = path.parent.parent / "checkpoints"
    version = directory / checkpoint.current_version(directory)
    valid, manifest = (version / name).read_bytes(), (version / checkpoint.MANIFEST).read_bytes()
    try:
        replace_file(version, name, path.read_bytes())
        lifecycle.prove(checkpoint.load(directory))
    finally:
        (version / name).write_bytes(valid)
        (version / checkpoint.MANIFEST).write_bytes(manifest)


def _manifest(path: Path) -> None:
    version = path.parent / "version"
    version.mkdir(exist_ok=True)
    (version / checkpoint.MANIFEST).write_bytes(path.read_bytes())
    checkpoint.read_manifest(version)


def _current(path: Path) -> None:
    directory = path.parent / "directory"
    directory.mkdir(exist_ok=True)
    (directory / checkpoint.CURRENT).write_bytes(path.read_bytes())
    checkpoint.load(directory)


DECODERS: dict[str, tuple[Callable[[Path], object], tuple[type[Exception], ...]]] = {
    "json": (lambda path: json.Decoder(256)(path.read_bytes()), ()),
    "msgpack": (lambda path: msgpack.decode(path.read_bytes()), (ValueError,)),
    "arrow": (lambda path: arrow.decode(path.read_bytes()), (ValueError,)),
    "csv": (lambda path: delimited.read(path, delimited.COMMA), (TrainingError,)),
    "tsv": (lambda path: delimited.read(path, delimited.U_DATA), (TrainingError,)),
    "csv.gz": (lambda path: delimited.read(path, delimited.COMMA), (TrainingError,)),
    "parquet": (parquet.read, (TrainingError,)),
    "manifest": (_manifest, (CheckpointError,)),
    "current": (_current, (CheckpointError,)),
    "checkpoint": (_checkpoint_file, (CheckpointError,)),
}


def main(decoder: str, folder: str) -> None:
    warnings.simplefilter("error")
    decode, refusals = DECODERS[decoder]
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in files:
        print(path.name, end=" ", flush=True)  # noqa: T201
        try:
            decode(path)
        except refusals as error:
            print("refused" if str(error) and "\n" not in str(error) else f"says nothing in one line: {error!r}")  # noqa: T201
        except BaseException as error:
            print(f"{type(error).__name__}: {str(error)[:200]!r}")  # noqa: T201
        else:
            print("read")  # noqa: T201
    print("memory", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
