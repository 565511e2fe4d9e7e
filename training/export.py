"""The lists of all users in a Parquet or CSV file, as the service would answer them.

It knows checkpoints and files, not how models are fitted. Shapes: B users of a batch, I items, N list length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.block_search import NOTHING
from models.checkpoint.reader import Checkpoint
from models.devices import choose_placement
from models.did_you_mean import did_you_mean
from models.orderings import default_order, orderings
from models.registry.directory import load
from models.sharding import Sharded, spread
from models.stored_items import StoredItem, described, is_shown, of_items
from training.data import store
from training.device import use_threads
from training.errors import ConfigError
from training.export_file import ROWS_PER_GROUP, writer

SCHEMA = pa.schema({"user": pa.string(), "rank": pa.int32(), "item": pa.string(), "rating": pa.float32()})
USERS_PER_BATCH = 1024  # 17,770 items × 32 factors: from 256 to 2,048 the time is the same within noise


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
    store_url: str | None,
) -> int:
    """Run `ratecast export`, and return the number of rows.

    `progress` is called with the number of users and yields a function to call with how many are done. Raises a
    CheckpointError, DeviceUnavailableError, ConfigError, DataError or ExportError.
    """
    placement = choose_placement(device)
    use_threads(threads)
    checkpoint = load(checkpoints, version, placement.device)
    named = spread(orderings(checkpoint.model, checkpoint.relevance), placement.shards)
    stored = () if store_url is None else stored_items(store_url)
    name, allowed_I = rank_by or default_order(named), choose_items(checkpoint, genre, stored)
    if name not in named:
        raise ConfigError(f"version {version} cannot order by {name}, only by {', '.join(sorted(named))}")
    users_U = choose_users(checkpoint, store_url)
    with progress(len(users_U), "users") as report:
        return export_top(
            checkpoint,
            out,
            named[name],
            n,
            rating=named["rating"],
            include_seen=include_seen,
            allowed_I=allowed_I,
            report=report,
            users_U=users_U,
        )


def stored_items(url: str) -> Sequence[StoredItem]:
    """What a ratings store says of items. Raises DataError for a database that is none."""
    store.check(url)
    return store.items(url)


def choose_users(checkpoint: Checkpoint, url: str | None) -> Tensor:
    """The rows of the users, int64, without those whom the ratings store deleted after the fit."""
    users_U = np.arange(checkpoint.model.users)
    if url is not None:
        snapshot, known = store.snapshot(url), checkpoint.manifest.data.snapshot
        is_fitted_on = snapshot is not None and known is not None and snapshot.store == known.store
        erased = store.erased_users(url, known.revision if known is not None and is_fitted_on else -1)
        users_U = np.setdiff1d(users_U, checkpoint.users.rows(erased.to_pylist()))
    return torch.from_numpy(users_U)


def choose_items(checkpoint: Checkpoint, genre: str | None, stored: Sequence[StoredItem] = ()) -> Tensor | None:
    """The items of a genre that may be shown now, bool (I,); None for all items.

    Raises ConfigError for a genre without items.
    """
    table = of_items(stored)
    rows_N = checkpoint.items.rows(table["id"])
    known_N = rows_N < len(checkpoint.items)
    rows_N, table = rows_N[known_N], table.filter(pa.array(known_N))
    hidden = rows_N[~is_shown(table, time.time())]
    if genre is None and not len(hidden):
        return None
    allowed_I = torch.ones(len(checkpoint.items), dtype=torch.bool)
    if genre is not None:
        allowed_I = _of_genre(described(checkpoint.catalogue, rows_N, table), genre)
    allowed_I[torch.from_numpy(hidden)] = False
    return allowed_I


def _of_genre(catalogue: pa.Table, genre: str) -> Tensor:
    genres = catalogue["genres"].to_pylist()
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
    users_U: Tensor | None = None,
) -> int:
    """Write the n best items of every user to `out`, or of the rows `users_U`, and return the number of rows.

    Columns: user, rank from 1, item, rating (r̂ clipped to the scale, as the service answers it). `rating` is the
    ordering by r̂; `report` is called with the number of users done. Raises ExportError if the file cannot be written;
    a file that was there before is then unchanged.
    """
    seen = None if include_seen else checkpoint.seen
    allowed = None if allowed_I is None else ordering.cut(allowed_I)
    users_U = torch.arange(checkpoint.model.users) if users_U is None else users_U
    rows, pending = 0, []
    with writer(out, SCHEMA) as file:
        done, number = 0, len(users_U)
        for users_B in users_U.split(USERS_PER_BATCH):
            excluded = None if seen is None else seen.rows(users_B.to(seen.offsets.device))
            items_BN = ordering.top_items(users_B, n, excluded=excluded, allowed=allowed)
            pending.append(_records(checkpoint, rating, users_B, items_BN))
            rows += len(pending[-1])
            done += len(users_B)
            if done == number or sum(map(len, pending)) >= ROWS_PER_GROUP:
                file.write_table(pa.Table.from_batches(pending, SCHEMA))
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
