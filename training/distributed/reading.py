"""What a rank reads of the ratings of a job: its users with all their ratings.

Parquet (a file, a directory of files in the order of their names, or a URL of either that fsspec can open) is read in
parts: every rank reads some row groups and sends each row to the rank of its user, so that no rank ever has all of
them. Any other source is read whole by every rank, which keeps its users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem
from pyarrow import parquet as pq

from training.config import JobConfig
from training.data.parquet import BATCH_ROWS, renamed
from training.data.train_test import TrainTest, read
from training.data.validation import Origin, checked_rows, chosen_columns
from training.distributed.group import Group
from training.distributed.shares import share
from training.distributed.shuffle import Rows, shuffled
from training.errors import ConfigError, DataError


def read_share(config: JobConfig, group: Group) -> TrainTest:
    """The users of this rank with all their ratings. Raises DataError or ConfigError for what cannot be read."""
    if not _in_parts(config):
        return share(read(config), group)
    if config.test is not None:
        raise ConfigError("--test cannot be used with Parquet under torchrun: use --split")
    return shuffled(group, *_read_rows(config, group), config, PurePosixPath(config.data).name)


def _in_parts(config: JobConfig) -> bool:
    if config.table is not None:
        return False
    return "://" in config.data or config.data.lower().endswith(".parquet") or Path(config.data).is_dir()


@dataclass(frozen=True, slots=True)
class _Piece:
    """A row group: of which file, its number, where its rows stand in the file and among all."""

    file: str
    group: int
    first: int
    begin: int
    rows: int


def _read_rows(config: JobConfig, group: Group) -> tuple[Rows, str]:
    """The rows of this rank's pieces, and a digest of everybody's."""
    try:
        system, path = fsspec.url_to_fs(config.data)
        pieces = _pieces(group, system, _files(system, path, config.data))
        total = sum(piece.rows for piece in pieces)
        if total == 0:
            raise DataError(f"{config.data}: no ratings")
        middle = [(piece.begin + piece.rows / 2) * group.size // total for piece in pieces]
        mine = [piece for piece, rank in zip(pieces, middle, strict=True) if int(rank) == group.rank]
        digests: list[tuple[int, str]] = []
        batches = [batch for piece in mine for batch in _batches(system, piece, config.columns, digests)]
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:  # hostile footers raise the first three
        raise DataError(f"{config.data}: not readable Parquet ({' '.join(str(error).split())})") from error
    everybody = sorted(pair for pairs in group.all_objects(digests) for pair in pairs)
    digest = hashlib.sha256("".join(digest for _, digest in everybody).encode()).hexdigest()
    return Rows.of(group, batches, config.data, mine[0].begin if mine else total, total), digest


def _files(system: AbstractFileSystem, path: str, name: str) -> list[str]:
    if not system.exists(path):
        raise DataError(f"{name}: no such file or directory")
    if not system.isdir(path):
        return [path]
    found = [file for file in system.find(path) if PurePosixPath(file).suffix == ".parquet"]
    files = sorted(file for file in found if not PurePosixPath(file).name.startswith(("_", ".")))
    if not files:
        raise DataError(f"{name}: no .parquet files")
    return files


def _pieces(group: Group, system: AbstractFileSystem, files: list[str]) -> list[_Piece]:
    """All row groups in order. Each rank reads some of the footers."""
    mine: dict[str, list[int]] = {}
    for file in files[group.rank :: group.size]:
        with system.open(file) as stream, pq.ParquetFile(stream) as parquet:
            facts = parquet.metadata
            mine[file] = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
    rows = {file: counts for part in group.all_objects(mine) for file, counts in part.items()}
    pieces, begin = [], 0
    for file in files:
        first = 0
        for number, count in enumerate(rows[file]):
            pieces.append(_Piece(file, number, first, begin + first, count))
            first += count
        begin += first
    return pieces


def _batches(
    system: AbstractFileSystem, piece: _Piece, columns: Mapping[str, str] | None, digests: list[tuple[int, str]]
) -> Iterator[pa.RecordBatch]:
    """The checked rows of a row group, one batch after the other; adds the digest of what was read."""
    origin = Origin(piece.file)
    digest: Any = hashlib.sha256()
    with system.open(piece.file) as stream, pq.ParquetFile(stream) as parquet:
        chosen = chosen_columns(parquet.schema_arrow.names, columns, origin)
        found = parquet.iter_batches(BATCH_ROWS, row_groups=[piece.group], columns=list(chosen.values()))
        offset = piece.first
        for batch in found:
            rows = checked_rows(renamed(batch, chosen), origin, offset)
            offset += batch.num_rows
            for column in rows.columns:
                for buffer in (column.dictionary_decode() if hasattr(column, "dictionary") else column).buffers():
                    digest.update(np.frombuffer(buffer, np.uint8) if buffer is not None else b"-")
            yield rows
    digests.append((piece.begin, digest.hexdigest()))
