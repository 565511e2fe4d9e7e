"""The ratings of a store in a Parquet or CSV file, in parts, so that it takes no memory. It knows no models."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from training.data import store
from training.errors import DataError
from training.export_file import ROWS_PER_GROUP, writer


def run(url: str, out: Path, user: str | None) -> int:
    """Write all ratings of a store, or those of one user, by user and item, and return their number.

    Raises DataError for a database that is no store, and for a user without ratings, ExportError if the file cannot be
    written.
    """
    store.check(url)
    rows, pending = 0, []
    with writer(out, store.RATING_SCHEMA) as file:
        for batch in store.ratings(url, user):
            rows += len(batch)
            pending.append(batch)
            if sum(map(len, pending)) >= ROWS_PER_GROUP:
                file.write_table(pa.Table.from_batches(pending))
                pending.clear()
        file.write_table(pa.Table.from_batches(pending, store.RATING_SCHEMA))
        if user is not None and not rows:
            raise DataError(f"the store has no ratings of the user {user!r}")
    return rows
