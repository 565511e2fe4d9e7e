"""What a rank reads of the ratings of a job: its users with all their ratings.

Parquet (a file, a directory of files in the order of their names, or a URL of either that fsspec can open) is read in
parts: every rank reads some row groups and sends each row to the rank of its user, so that no rank ever has all of
them. Any other source is read whole by every rank, which keeps its users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem
from pyarrow import parquet as pq

from training.communicator import Communicator, Span
from training.config import JobConfig
from training.data.interactions import Interactions
from training.data.parquet import BATCH_ROWS, renamed
from training.data.train_test import TrainTest, read
from training.data.validation import Origin, checked_rows, chosen_columns
from training.distributed.group import Group
from training.distributed.shuffle import Rows, cuts, shuffled, whole_blocks, work_of
from training.errors import ConfigError, DataError


def read_share(config: JobConfig, group: Group) -> TrainTest:
    """The users of this rank with all their ratings. Raises DataError or ConfigError for what cannot be read."""
    if not _in_parts(config):
        return share(read(config), group)
    if config.test is not None:
        raise ConfigError("--test cannot be used with Parquet under torchrun: use --split")
    return shuffled(group, _read_rows(config, group), config, PurePosixPath(config.data).name)


def _in_parts(config: JobConfig) -> bool:
    parquet = "://" in config.data or config.data.lower().endswith(".parquet") or Path(config.data).is_dir()
    return parquet and config.table is None


def share(ratings: TrainTest, communicator: Communicator) -> TrainTest:
    """A rank's share of ratings that it has whole. Users are numbered from 0, and len(users) means none of them.

    Held-out ratings of users without training ratings are with the last rank.
    """
    rank, size, users = communicator.rank, communicator.size, ratings.train.users
    counts_U = np.bincount(ratings.train.users_N, minlength=users)
    span = Span(whole_blocks(cuts(counts_U, 0, Span.whole(work_of(counts_U)), size), users), rank)
    train, test = (_of(part, span, last=rank == size - 1) for part in (ratings.train, ratings.test))
    return replace(ratings, train=train, test=test, communicator=communicator, users_here=span)


def _of(ratings: Interactions, span: Span, *, last: bool) -> Interactions:
    """The ratings of a span's users; with `last` also those of no user that is known."""
    users_N, unknown = ratings.users_N, ratings.users
    rows = (users_N >= span.start) & (users_N < span.stop) | (last & (users_N == unknown))
    taken = ratings.take(np.flatnonzero(rows))
    here_N = np.where(taken.users_N == unknown, len(span), taken.users_N - span.start).astype(np.int32)
    return replace(taken, users_N=here_N, user_ids=ratings.user_ids[span.rows])


@dataclass(frozen=True, slots=True)
class _Piece:
    """A row group: of which file, its number, where its rows stand in the file and among all."""

    file: str
    group: int
    first: int
    begin: int
    rows: int


def _read_rows(config: JobConfig, group: Group) -> Rows:
    """The rows of this rank's pieces."""
    try:
        system, path = fsspec.url_to_fs(config.data)
        pieces = _pieces(group, system, _files(system, path, config.data))
        total = sum(piece.rows for piece in pieces)
        if total == 0:
            raise DataError(f"{config.data}: no ratings")
        middle = [(piece.begin + piece.rows / 2) * group.size // total for piece in pieces]
        mine = [piece for piece, rank in zip(pieces, middle, strict=True) if int(rank) == group.rank]
        read = [_read_piece(system, piece, config.columns) for piece in mine]
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:  # hostile footers raise the first three
        raise DataError(f"{config.data}: not readable Parquet ({' '.join(str(error).split())})") from error
    digests = "".join(group.all_objects("".join(digest for _, digest in read)))
    return Rows.of(
        group,
        [batch for batches, _ in read for batch in batches],
        config.data,
        begin=mine[0].begin if mine else total,
        total=total,
        digest=hashlib.sha256(digests.encode()).hexdigest(),
    )


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


def _read_piece(
    system: AbstractFileSystem, piece: _Piece, columns: Mapping[str, str] | None
) -> tuple[list[pa.RecordBatch], str]:
    """The checked rows of a row group, and their digest."""
    origin, offset, batches = Origin(piece.file), piece.first, []
    digest: Any = hashlib.sha256()
    with system.open(piece.file) as stream, pq.ParquetFile(stream) as parquet:
        chosen = chosen_columns(parquet.schema_arrow.names, columns, origin)
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[piece.group], columns=list(chosen.values())):
            rows = checked_rows(renamed(batch, chosen), origin, offset)
            offset += batch.num_rows
            for column in rows.columns:
                for buffer in (column.dictionary_decode() if hasattr(column, "dictionary") else column).buffers():
                    digest.update(np.frombuffer(buffer, np.uint8) if buffer is not None else b"-")
            batches.append(rows)
    return batches, digest.hexdigest()
