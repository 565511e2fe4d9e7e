"""Reads Parquet and Arrow files batch by batch, so that the text of all ids is never in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO

import pyarrow as pa
from pyarrow import ipc
from pyarrow import parquet as pq

from training.data.compression import Opener
from training.data.origin import Origin, Selection
from training.errors import DataError

BATCH_ROWS = 1 << 20
MOST_COLUMNS = 10_000
PARQUET, ARROW, STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
STREAM_END = STREAM + b"\0\0\0\0"


def parquet_batches(
    opener: Callable[[], str | IO[bytes]], selection: Selection, origin: Origin
) -> Iterator[pa.RecordBatch]:
    """The chosen columns of a Parquet file; `opener` gives its path or a stream. Raises DataError."""
    with _readable(origin, "Parquet"), _closed(opener()) as source, pq.ParquetFile(source) as file:
        chosen = _chosen(file.schema_arrow, selection, origin)
        rows = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=list(chosen.values())):
            rows += batch.num_rows
            yield renamed(batch, chosen)
        if rows != file.metadata.num_rows:
            raise DataError(f"{origin.name}: {rows:,} of {file.metadata.num_rows:,} rows were read")


def arrow_batches(opener: Opener, selection: Selection, origin: Origin) -> Iterator[pa.RecordBatch]:
    """The chosen columns of an Arrow file or stream. Raises DataError."""
    with _readable(origin, "Arrow"), opener() as source:
        is_stream = source.read(len(STREAM)) == STREAM
        source.seek(0)
        with ipc.open_stream(source) if is_stream else ipc.open_file(source) as reader:
            chosen = _chosen(reader.schema, selection, origin)
            batches = _whole(reader, source) if is_stream else map(reader.get_batch, range(reader.num_record_batches))
            for batch in batches:
                batch.validate(full=True)
                yield renamed(batch, chosen)


def _whole(reader: pa.RecordBatchReader, source: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """The batches of a stream, which must end with its end-of-stream marker: Arrow accepts any end."""
    before = source.tell()
    for batch in reader:
        yield batch
        before = source.tell()
    if source.tell() - before != len(STREAM_END) or source.read(1):
        raise ValueError("it is truncated, or has bytes after its end")


def renamed(batch: pa.RecordBatch, chosen: Mapping[str, str]) -> pa.RecordBatch:
    """The chosen columns (our name → the file's) under our names."""
    return pa.RecordBatch.from_arrays([batch.column(theirs) for theirs in chosen.values()], names=list(chosen))


def _chosen(schema: pa.Schema, selection: Selection, origin: Origin) -> dict[str, str]:
    if len(schema.names) > MOST_COLUMNS:
        raise origin.error(f"{len(schema.names):,} columns; a table of ratings has a row for each rating")
    return selection.of(schema.names, origin)


def _closed(source: str | IO[bytes]) -> AbstractContextManager[str | IO[bytes]]:
    return nullcontext(source) if isinstance(source, str) else source


@contextmanager
def _readable(origin: Origin, kind: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise DataError(f"{origin.name}: a part of this {kind} file does not fit into memory") from error
    except (pa.ArrowException, OSError, ValueError) as error:  # hostile footers raise each of them
        reason = " ".join(str(error).split())
        raise DataError(f"{origin.name}: not a readable {kind} file ({reason})") from error
