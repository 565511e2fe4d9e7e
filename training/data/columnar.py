"""Reads Parquet and Arrow files batch by batch, so that the text of all ids is never in memory at once."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import ipc
from pyarrow import parquet as pq

from training.data.compression import Opener
from training.data.origin import Origin, Selection
from training.errors import DataError

BATCH_ROWS = 1 << 20
MOST_COLUMNS = 10_000
FEW_COLUMNS = "a table of ratings has a row for each rating"
MOST_METADATA = 1 << 24  # bytes of an Arrow schema with its places of batches: 10,000 columns of pandas take 1.7 MB
PARQUET, ARROW, STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
STREAM_END = STREAM + b"\0\0\0\0"
# How a footer of Parquet begins in Thrift's compact protocol: the version, and the length of the list of columns.
FOOTER = re.compile(rb"\x15[\x80-\xff]*[\x00-\x7f]\x19\xfc(?P<length>[\x80-\xff]{0,4}[\x00-\x7f])")


def parquet_batches(
    opener: Callable[[], str | IO[bytes]], selection: Selection, origin: Origin
) -> Iterator[pa.RecordBatch]:
    """The chosen columns of a Parquet file; `opener` gives its path or a stream. Raises DataError."""
    with _readable(origin, "Parquet"), _closed(opener()) as source:
        refuse_wide(source, origin)
        yield from _batches(source, selection, origin)


def _batches(source: str | IO[bytes], selection: Selection, origin: Origin) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(source) as file:
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
        if (size := _metadata_bytes(source, is_stream=is_stream)) > MOST_METADATA:
            raise origin.error(f"{size:,} bytes of names and types of columns; {FEW_COLUMNS}")
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
    _check_width(len(schema.names), origin)
    return selection.of(schema.names, origin)


def _check_width(columns: int, origin: Origin) -> None:
    if columns > MOST_COLUMNS:
        raise origin.error(f"{columns:,} columns; {FEW_COLUMNS}")


def refuse_wide(source: str | IO[bytes], origin: Origin) -> None:
    """Raise DataError if the footer of a Parquet file announces too many columns, of which nested ones count.

    Arrow takes seconds and gigabytes to find out that they are a million. A footer that is not understood passes.
    """
    with Path(source).open("rb") if isinstance(source, str) else nullcontext(source) as file:
        end = file.seek(0, io.SEEK_END) - len(PARQUET) - 4
        file.seek(max(end, 0))
        footer_bytes = int.from_bytes(file.read(4), "little")
        file.seek(max(end - footer_bytes, 0))
        found = FOOTER.match(file.read(32))
    digits = found["length"] if found else b""
    _check_width(sum((digit & 0x7F) << 7 * place for place, digit in enumerate(digits)) - 1, origin)  # less the root


def _metadata_bytes(source: IO[bytes], *, is_stream: bool) -> int:
    """The size of the schema at the beginning of an Arrow stream, or of the footer at the end of a file."""
    source.seek(*((len(STREAM), io.SEEK_SET) if is_stream else (-len(ARROW) - 4, io.SEEK_END)))
    return int.from_bytes(source.read(4), "little")


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
