"""Reads Parquet files batch by batch, so that ids never stand in memory as long as the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet as pq

from training.data.validation import Checked, Origin, check_file, checked, chosen_columns
from training.errors import DataError

BATCH_ROWS = 1 << 20


def read(path: Path, columns: Mapping[str, str] | None = None) -> Checked:
    """The ratings in a Parquet file. Raises DataError, which names the row, counted from 1, if it is known."""
    check_file(path)
    origin = Origin(str(path))
    try:
        with pq.ParquetFile(path) as file:
            chosen = chosen_columns(file.schema_arrow.names, columns, origin)
            batches = file.iter_batches(BATCH_ROWS, columns=list(chosen.values()))
            return checked((renamed(batch, chosen) for batch in batches), origin)
    except (pa.ArrowException, OSError, ValueError) as error:  # hostile footers raise each of them
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable Parquet file ({reason})") from error


def renamed(batch: pa.RecordBatch, chosen: Mapping[str, str]) -> pa.RecordBatch:
    """The chosen columns (our name → the file's) under our names."""
    return pa.RecordBatch.from_arrays([batch.column(theirs) for theirs in chosen.values()], names=list(chosen))
