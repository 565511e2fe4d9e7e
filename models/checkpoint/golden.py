"""Golden pairs: a few predictions stored with a model when it is published.

A hash shows that the bytes arrived; golden pairs show that the loaded model still computes the same predictions:
ids, tables and arithmetic together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from models.checkpoint.files import GOLDEN_SCHEMA
from models.checkpoint.reader import Checkpoint
from models.errors import GoldenPairsError
from models.mf import MatrixFactorization
from models.scoring import Rows

KNOWN = 29  # pairs of known ids; with those of unknown ids 32
TOLERANCE = 1e-4  # times the largest rating, at least 1: devices add in different orders


def make(
    model: MatrixFactorization, users: pa.StringArray, items: pa.StringArray, scale: tuple[float, float]
) -> pa.Table:
    """Pairs from all parts of a model's tables, and three pairs with unknown ids, as `GOLDEN_SCHEMA`.

    `users` and `items` are the ids of the tables' rows, `scale` the lowest and the highest rating.
    """
    known = min(KNOWN, max(len(users), len(items)))
    users_K = np.linspace(0, len(users) - 1, known).astype(np.int64)
    items_K = np.roll(np.linspace(0, len(items) - 1, known).astype(np.int64), known // 2)
    users_B = np.concatenate([users_K, [0, len(users), len(users)]])
    items_B = np.concatenate([items_K, [len(items), 0, len(items)]])
    ratings_B = _ratings(model, users_B, items_B, scale)
    return pa.table([_ids(users, users_B), _ids(items, items_B), pa.array(ratings_B)], schema=GOLDEN_SCHEMA)


def check_model(checkpoint: Checkpoint) -> None:
    """Raise GoldenPairsError if the model does not predict its golden pairs."""
    table, shape = checkpoint.golden, checkpoint.manifest.model
    users_B = checkpoint.users.rows(table["user"].to_pylist())
    items_B = checkpoint.items.rows(table["item"].to_pylist())
    check(table, _ratings(checkpoint.model, users_B, items_B, (shape.rating_min, shape.rating_max)))


def check(golden: pa.Table, ratings: npt.ArrayLike) -> None:
    """Raise GoldenPairsError if the ratings found for the pairs differ from those that were stored."""
    wanted = golden["rating"].to_numpy()
    found = np.asarray(ratings, np.float32)
    wrong = np.flatnonzero(~(np.abs(found - wanted) <= TOLERANCE * max(1.0, float(np.abs(wanted).max()))))
    if wrong.size:
        first = int(wrong[0])
        raise GoldenPairsError(
            f"golden pair {first} of {len(wanted)} is predicted {found[first]:.6g}, and at publication it was "
            f"{wanted[first]:.6g}"
        )


def _ratings(
    model: MatrixFactorization, users_B: Rows, items_B: Rows, scale: tuple[float, float]
) -> npt.NDArray[np.float32]:
    users, items = (torch.from_numpy(rows_B).to(model.device) for rows_B in (users_B, items_B))
    return model(users, items).clamp(*scale).cpu().numpy()


def _ids(ids: pa.StringArray, rows: Rows) -> pa.StringArray:
    """The id of each row; for the row after the last an id that does not exist."""
    unknown = "unknown"
    while ids.index(unknown).as_py() >= 0:
        unknown += "?"
    return pa.array([ids[row].as_py() if row < len(ids) else unknown for row in rows.tolist()], pa.string())
