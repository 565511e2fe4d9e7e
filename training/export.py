"""The lists of all users in a Parquet or CSV file, as the service would answer them.

It knows checkpoints and files, not how models are fitted. Shapes: B users of a batch, I items, N list length.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import csv, parquet
from torch import Tensor

from models.block_search import NOTHING
from models.checkpoint.reader import Checkpoint
from models.devices import choose_placement
from models.did_you_mean import did_you_mean
from models.orderings import default_order, orderings
from models.registry.directory import load
from models.sharding import Sharded, spread
from training.device import use_threads
from training.errors import ConfigError, ExportError

SCHEMA = pa.schema({"user": pa.string(), "rank": pa.int32(), "item": pa.string(), "rating": pa.float32()})
USERS_PER_BATCH = 1024  # 17,770 items × 32 factors: from 256 to 2,048 the time is the same within noise
ROWS_PER_GROUP = 1 << 20


def run(
    progress: Callable[[int, str], AbstractContextManager[Callable[[int], None]]],
    *,
    checkpoints: Path,
    version: str,
    out: Path,
    n: int,
    rank_by: str | None,
    include_seen: bool,
    genre: str | None,
    device: str,
    threads: int | None,
) -> int:
    """Run `python -m training export-top`, and return the number of rows.

    `progress` is called with the number of users and yields a function to call with how many are done. Raises a
    CheckpointError, DeviceUnavailableError, ConfigError or ExportError.
    """
    placement = choose_placement(device)
    use_threads(threads)
    checkpoint = load(checkpoints, version, placement.device)
    named = spread(orderings(checkpoint.model, checkpoint.relevance), placement.shards)
    name, allowed_I = rank_by or default_order(named), choose_items(checkpoint, genre)
    if name not in named:
        raise ConfigError(f"version {version} cannot order by {name}, only by {', '.join(sorted(named))}")
    with progress(checkpoint.model.users, "users") as report:
        return export_top(
            checkpoint,
            out,
            named[name],
            n,
            rating=named["rating"],
            include_seen=include_seen,
            allowed_I=allowed_I,
            report=report,
        )


def choose_items(checkpoint: Checkpoint, genre: str | None) -> Tensor | None:
    """The items of a genre, bool (I,); None for all items. Raises ConfigError for a genre without items."""
    if genre is None:
        return None
    genres = checkpoint.catalogue["genres"].to_pylist()
    allowed_I = torch.tensor([genre in (of_item or ()) for of_item in genres], dtype=torch.bool)
    if not allowed_I.any():
        known = sorted({genre for of_item in genres for genre in of_item or ()})
        hint, there = did_you_mean(genre, known), ", ".join(known) or "none"
        raise ConfigError(f"no item has the genre {genre!r}; the genres are {there}{hint}")
    return allowed_I


@torch.inference_mode()
def export_top(
    checkpoint: Checkpoint,
    out: Path,
    ordering: Sharded,
    n: int,
    *,
    rating: Sharded,
    include_seen: bool,
    allowed_I: Tensor | None,
    report: Callable[[int], None],
) -> int:
    """Write the n best items of every user to `out`, in the order of their rows, and return the number of rows.

    Columns: user, rank from 1, item, rating (r̂ clipped to the scale, as the service answers it). `rating` is the
    ordering by r̂; `report` is called with the number of users done. Raises ExportError if the file cannot be written;
    a file that was there before is then unchanged.
    """
    seen = None if include_seen else checkpoint.seen
    allowed = None if allowed_I is None else ordering.cut(allowed_I)
    rows, pending = 0, []
    with _writer(out) as writer:
        for users_B in torch.arange(checkpoint.model.users).split(USERS_PER_BATCH):
            excluded = None if seen is None else seen.rows(users_B.to(seen.offsets.device))
            items_BN = ordering.top_items(users_B, n, excluded=excluded, allowed=allowed)
            pending.append(_records(checkpoint, rating, users_B, items_BN))
            rows += len(pending[-1])
            done = int(users_B[-1]) + 1
            if done == checkpoint.model.users or sum(map(len, pending)) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_batches(pending, SCHEMA))
                pending.clear()
            report(done)
    return rows


def _records(checkpoint: Checkpoint, rating: Sharded, users_B: Tensor, items_BN: Tensor) -> pa.RecordBatch:
    filled_BN = items_BN != NOTHING
    row_M, rank_M = filled_BN.nonzero(as_tuple=True)
    users_M, items_M = users_B[row_M], items_BN[filled_BN]
    device, shape = rating.device, checkpoint.manifest.model
    ratings_M = rating.exact(users_M.to(device), items_M.to(device)).clamp(shape.rating_min, shape.rating_max)
    columns = [
        checkpoint.users.ids.take(pa.array(users_M.numpy())),
        pa.array((rank_M + 1).numpy(), pa.int32()),
        checkpoint.items.ids.take(pa.array(items_M.numpy())),
        pa.array(ratings_M.cpu().numpy()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@contextmanager
def _writer(out: Path) -> Iterator[parquet.ParquetWriter | csv.CSVWriter]:
    """A writer of the file. The file gets its name when it is complete on the disk."""
    if out.is_dir():
        raise ExportError(f"cannot write {out}: it is a directory")
    staging = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        kind = csv.CSVWriter if out.suffix.lower() == ".csv" else parquet.ParquetWriter
        with staging.open("wb") as stream, kind(stream, SCHEMA) as writer:
            yield writer
        with staging.open("rb") as written:
            os.fsync(written.fileno())
        staging.rename(out)
    except (OSError, pa.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise ExportError(f"cannot write {out}: {reason}; nothing was written") from error
    finally:
        with suppress(OSError):
            staging.unlink()
