"""The splits of `training.data.split` for ratings that are spread over ranks: the same rows are held out.

`random:F` draws the permutation of all rows on every rank, which takes 8 bytes a row there; the others take nothing.
Shapes: N rows here.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from training.data.columns import Bools
from training.data.interactions import Int64s
from training.data.split import Split
from training.distributed.group import Group
from training.errors import ConfigError, DataError


class Dated(Protocol):
    """Ratings of whole users. `rows_N` are the numbers of the rows among all."""

    users_N: Int64s
    timestamps_N: Int64s | None
    rows_N: Int64s


def held_out(group: Group, table: Dated, split: Split, seed: int, total: int) -> Bools:
    """Which rows here are in the test part. Raises ConfigError or DataError as the splits of one process do."""
    size = math.ceil((split.fraction or 0) * total)
    if split.kind == "none":
        test_N = np.zeros(len(table.rows_N), bool)
    elif split.kind == "random":
        in_test = np.zeros(total, bool)
        in_test[np.random.default_rng(seed).permutation(total)[total - size :]] = True
        test_N = in_test[table.rows_N]
    elif table.timestamps_N is None:
        raise ConfigError(f"--split {split}: the ratings have no timestamps")
    elif split.kind == "last-out":
        test_N = _latest(table.users_N, table.timestamps_N, table.rows_N)
    else:
        test_N = _newest(group, table.timestamps_N, table.rows_N, size)
    if group.total(int((~test_N).sum())) == 0:
        raise DataError(f"the split {split} leaves no ratings to train on")
    return test_N


def _latest(users_N: Int64s, times_N: Int64s, rows_N: Int64s) -> Bools:
    order = np.lexsort((rows_N, -times_N, users_N))
    first_N = np.ones(len(order), bool)
    first_N[1:] = users_N[order][1:] != users_N[order][:-1]
    latest_N = np.zeros(len(order), bool)
    latest_N[order[first_N]] = True
    return latest_N


def _newest(group: Group, times_N: Int64s, rows_N: Int64s, size: int) -> Bools:
    """The last `size` rows by time, ties by row."""
    cut = _largest_with(group, times_N, size)
    tied_N = times_N == cut
    newer_N = times_N > cut
    left = size - group.total(int(newer_N.sum()))
    row = _largest_with(group, rows_N[tied_N], left)
    test_N: Bools = newer_N | (tied_N & (rows_N >= row))
    return test_N


def _largest_with(group: Group, values_N: Int64s, size: int) -> int:
    """The largest number that at least `size` of all ranks' values reach, by bisection."""
    low = int(group.least_number(values_N.min() if len(values_N) else np.iinfo(np.int64).max))
    high = -int(group.least_number(-values_N.max() if len(values_N) else np.iinfo(np.int64).max))
    while low < high:
        middle = low + (high - low + 1) // 2
        if group.total(int((values_N >= middle).sum())) >= size:
            low = middle
        else:
            high = middle - 1
    return low
