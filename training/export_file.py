"""A Parquet or CSV file that is written in parts. It has its name once it is complete on the disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from training.errors import ExportError

ROWS_PER_GROUP = 1 << 20


@contextmanager
def writer(out: Path, schema: pa.Schema) -> Iterator[parquet.ParquetWriter | csv.CSVWriter]:
    """A writer of the file: CSV for a name that ends in .csv, else Parquet.

    Raises ExportError if the file cannot be written; a file that was there before is then unchanged.
    """
    if out.is_dir():
        raise ExportError(f"cannot write {out}: it is a directory")
    staging = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        kind = csv.CSVWriter if out.suffix.lower() == ".csv" else parquet.ParquetWriter
        with staging.open("wb") as stream, kind(stream, schema) as opened:
            yield opened
        with staging.open("rb") as written:
            os.fsync(written.fileno())
        staging.rename(out)
    except (OSError, pa.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise ExportError(f"cannot write {out}: {reason}; nothing was written") from error
    finally:
        with suppress(OSError):
            staging.unlink()
