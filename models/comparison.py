"""Which of two models predicts better, on ratings that neither was fitted on: paired, and with its uncertainty.

For two versions the ratings are those that they were measured by. What a version predicted for its own is kept with it;
what it says of the other's is computed, where it was not fitted on them. Shapes: N ratings, U users, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from models.checkpoint.reader import Checkpoint
from models.errors import ComparisonError

LEAST = 100  # fewer ratings decide nothing
RESAMPLES = 1_000
PAIRS_AT_ONCE = 1 << 16

Verdict = Literal["better", "no difference", "worse"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The RMSE of two models on the same ratings, clipped to the scale.

    `low` and `high` bound `difference`, the RMSE of the one less that of the other, at 95 %: users are resampled, as
    a user's ratings err together (Efron and Tibshirani 1993, chapter 13). `verdict` is of the one.
    """

    ratings: int
    users: int
    rmse: float
    rmse_against: float
    difference: float
    low: float
    high: float
    verdict: Verdict


def compare(one: Checkpoint, other: Checkpoint, held_out: tuple[pa.Table | None, pa.Table | None]) -> Comparison:
    """Compare two versions by the held-out ratings of both, of a pair in both by the one's.

    Raises ComparisonError where fewer than `LEAST` ratings are new to both.
    """
    tables = [table for table in held_out if table is not None]
    table = _distinct(pa.concat_tables(tables)) if tables else None
    if table is not None:
        predicted_2N = np.stack(
            [predictions(version, table, own) for version, own in zip((one, other), held_out, strict=True)]
        )
        new_N = np.isfinite(predicted_2N).all(0)
    if table is None or new_N.sum() < LEAST:
        number = 0 if table is None else int(new_N.sum())
        raise ComparisonError(
            f"{number} held-out ratings are new to both {one.version} and {other.version}: at least {LEAST} are needed"
        )
    table = table.filter(pa.array(new_N))
    squared_2N = (predicted_2N[:, new_N] - table["rating"].to_numpy()) ** 2
    users_N = pc.dictionary_encode(table["user"].combine_chunks()).indices.to_numpy()
    return paired(squared_2N, users_N)


def paired(squared_2N: Floats, users_N: npt.NDArray[np.int32]) -> Comparison:
    """Compare the squared errors of two models on the same ratings, given the user of each rating."""
    _, of_users_N = np.unique(users_N, return_inverse=True)
    sums_3U = np.stack([np.bincount(of_users_N, weights) for weights in (*squared_2N, np.ones(len(users_N)))])
    users = sums_3U.shape[1]
    rng = np.random.default_rng(0)
    resampled_3R = np.stack([sums_3U @ rng.poisson(1, users) for _ in range(RESAMPLES)], axis=1)
    rmse_2R = np.sqrt(resampled_3R[:2] / np.maximum(resampled_3R[2], 1))
    low, high = np.quantile(rmse_2R[0] - rmse_2R[1], (0.025, 0.975)).tolist()
    rmse, against = np.sqrt(squared_2N.mean(1)).tolist()
    verdict: Verdict = "better" if high < 0 else "worse" if low > 0 else "no difference"
    return Comparison(len(users_N), users, rmse, against, rmse - against, low, high, verdict)


def _distinct(table: pa.Table) -> pa.Table:
    """The first row of each pair of user and item."""
    numbered = table.append_column("row", pa.array(np.arange(len(table))))
    first = numbered.group_by(["user", "item"]).aggregate([("row", "min")])["row_min"]
    return table.take(first.combine_chunks().sort())


def predictions(version: Checkpoint, table: pa.Table, own: pa.Table | None = None) -> Floats:
    """What a version predicts for the pairs of a table, clipped, (N,); NaN for those that it was fitted on.

    `own` is what it predicted for the ratings that it was measured by, which it may have been fitted on afterwards.
    """
    users_N = version.users.rows(table["user"].to_pylist())
    items_N = version.items.rows(table["item"].to_pylist())
    shape, rows_2N = version.manifest.model, torch.from_numpy(np.stack([users_N, items_N])).to(version.model.device)
    parts = [version.model(*rows_2B) for rows_2B in rows_2N.split(PAIRS_AT_ONCE, dim=1)]
    predicted_N: Floats = torch.cat(parts).clamp(shape.rating_min, shape.rating_max).cpu().double().numpy()
    offsets, width = version.seen.offsets.cpu().numpy(), len(version.items) + 1
    fitted_T = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * width + version.seen.items_N.cpu().numpy()
    predicted_N[np.isin(users_N * width + items_N, fitted_T)] = np.nan
    if own is not None:
        at_N = _positions(table, own)
        predicted_N[at_N >= 0] = own["predicted"].to_numpy()[at_N[at_N >= 0]]
    return predicted_N


def _positions(table: pa.Table, own: pa.Table) -> npt.NDArray[np.int64]:
    """Where the pair of each row stands in another table, −1 where it does not, (N,)."""
    numbered = own.select(["user", "item"]).append_column("at", pa.array(np.arange(len(own))))
    rows = table.select(["user", "item"]).append_column("row", pa.array(np.arange(len(table))))
    found = rows.join(numbered, ["user", "item"])
    at_N = np.full(len(table), -1, np.int64)
    at_N[found["row"].to_numpy()] = found["at"].fill_null(-1).to_numpy()
    return at_N
