"""What a rank reads of the ratings of a job: its users with all their ratings.

Parquet files are read in parts: every rank reads some row groups and sends each row to the rank of its user, so that no
rank ever has all of them. Any other source is read whole by every rank, which keeps its users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from training.communicator import Communicator, Span
from training.config import JobConfig
from training.data.columnar import BATCH_ROWS, refuse_wide, renamed
from training.data.dataset import is_files, shown_name
from training.data.files import File, found, is_parquet
from training.data.interactions import Int64s, Interactions
from training.data.origin import Origin, Selection
from training.data.train_test import TrainTest, read
from training.data.validation import checked_rows
from training.distributed.group import Group
from training.distributed.shuffle import Batch, Rows, cuts, shuffled, whole_blocks, work_of
from training.errors import ConfigError, DataError


def read_share(config: JobConfig, group: Group) -> TrainTest:
    """The users of this rank with all their ratings. Raises DataError or ConfigError for what cannot be read."""
    parquet = _parquet_files(config)
    if parquet is None:
        return share(read(config), group)
    if config.test is not None:
        raise ConfigError("--test cannot be used with Parquet under torchrun: use --split")
    name = shown_name(config.data, config.options)
    return shuffled(group, _read_rows(config, group, parquet, name), config, name)


def _parquet_files(config: JobConfig) -> list[list[File]] | None:
    """The files of each source if all are Parquet, uncompressed and with all their rows; else None."""
    leaves_out = config.options.drop_ratings or config.store is not None
    if leaves_out or any(not is_files(source, config.options) for source in config.data):
        return None
    sources = [found(source) for source in config.data]
    return sources if all(is_parquet(file) for files in sources for file in files) else None


def share(ratings: TrainTest, communicator: Communicator) -> TrainTest:
    """A rank's share of ratings that it has whole. Users are numbered from 0, and len(users) means none of them.

    Held-out ratings of users without training ratings are with the last rank.
    """
    rank, size, users = communicator.rank, communicator.size, ratings.train.users
    counts_U = np.bincount(ratings.train.users_N, minlength=users)
    span = Span(whole_blocks(cuts(counts_U, 0, Span.whole(work_of(counts_U)), size), users), rank)
    parts = [(part, _rows_of(part, span, last=rank == size - 1)) for part in (ratings.train, ratings.test)]
    train, test = (_of(part, span, rows) for part, rows in parts)
    facts = replace(ratings, communicator=communicator, users_here=span, order_N=parts[0][1])
    return replace(facts, train=train, test=test)


def _rows_of(ratings: Interactions, span: Span, *, last: bool) -> Int64s:
    """Where the ratings of a span's users are; with `last` also those of no user that is known."""
    users_N, unknown = ratings.users_N, ratings.users
    return np.flatnonzero((users_N >= span.start) & (users_N < span.stop) | (last & (users_N == unknown)))


def _of(ratings: Interactions, span: Span, rows: Int64s) -> Interactions:
    """Some ratings, of a span's users, as a rank has them."""
    taken = ratings.take(rows)
    here_N = np.where(taken.users_N == ratings.users, len(span), taken.users_N - span.start).astype(np.int32)
    return replace(taken, users_N=here_N, user_ids=ratings.user_ids[span.rows])


@dataclass(frozen=True, slots=True)
class _Piece:
    """A row group: of which source and file, its number, where its rows stand in the file and among all."""

    source: int
    file: File
    group: int
    first: int
    begin: int
    rows: int


def _read_rows(config: JobConfig, group: Group, sources: list[list[File]], name: str) -> Rows:
    """The rows of this rank's pieces."""
    try:
        pieces = _pieces(group, [(number, file) for number, files in enumerate(sources) for file in files])
        total = sum(piece.rows for piece in pieces)
        if total == 0:
            raise DataError(f"{name}: no ratings")
        middle = [(piece.begin + piece.rows / 2) * group.size // total for piece in pieces]
        mine = [piece for piece, rank in zip(pieces, middle, strict=True) if int(rank) == group.rank]
        read = [_read_piece(piece, config.options.columns) for piece in mine]
    except (pa.ArrowException, OSError, ValueError) as error:  # hostile footers raise each of them
        raise DataError(f"{name}: not readable Parquet ({' '.join(str(error).split())})") from error
    digests = "".join(group.all_objects("".join(digest for _, digest in read)))
    of_sources: list[list[Batch]] = [[] for _ in sources]
    for piece, (batches, _) in zip(mine, read, strict=True):
        of_sources[piece.source] += batches
    return Rows.of(
        group,
        of_sources,
        begin=mine[0].begin if mine else total,
        total=total,
        digest=hashlib.sha256(digests.encode()).hexdigest(),
    )


def _pieces(group: Group, files: list[tuple[int, File]]) -> list[_Piece]:
    """All row groups in order. Each rank reads some of the footers."""
    mine: dict[int, list[int]] = {}
    for number in range(group.rank, len(files), group.size):
        with files[number][1].open() as stream:
            refuse_wide(stream, Origin(files[number][1].name))
            facts = pq.ParquetFile(stream).metadata
            mine[number] = [facts.row_group(each).num_rows for each in range(facts.num_row_groups)]
    rows = {number: counts for part in group.all_objects(mine) for number, counts in part.items()}
    pieces, begin = [], 0
    for number, (source, file) in enumerate(files):
        first = 0
        for each, count in enumerate(rows[number]):
            pieces.append(_Piece(source, file, each, first, begin + first, count))
            first += count
        begin += first
    return pieces


def _read_piece(piece: _Piece, columns: Mapping[str, str]) -> tuple[list[Batch], str]:
    """The checked rows of a row group, and their digest."""
    origin, offset, batches = Origin(piece.file.name), piece.first, list[Batch]()
    digest: Any = hashlib.sha256()
    with piece.file.open() as stream, pq.ParquetFile(stream) as parquet:
        chosen = Selection(renamed=columns).of(parquet.schema_arrow.names, origin)
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[piece.group], columns=list(chosen.values())):
            rows = checked_rows(renamed(batch, chosen), origin, offset)
            batches.append(Batch(rows, origin, offset))
            offset += batch.num_rows
            for column in rows.columns:
                for buffer in (column.dictionary_decode() if hasattr(column, "dictionary") else column).buffers():
                    digest.update(np.frombuffer(buffer, np.uint8) if buffer is not None else b"-")
    return batches, digest.hexdigest()
