"""What the service would have answered: the test part in the order of time, users folded in from what they had given.

A user without a rating since the fit has the row of the model, or that of unknown users. With each rating since then
the service solves the row again, from all ratings of the user, and so does this. Shapes: N test ratings, in the order
of time; F factors, B rows of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.fold_in import FoldInPrior, RowSolver
from models.mf import MatrixFactorization
from models.training_ratings import TrainingRatings
from training import metrics
from training.data.interactions import Int64s, Interactions
from training.errors import ConfigError

log = logging.getLogger(__name__)

SINCE_FIT = (0, 1, 5, 20)  # the least number of ratings of each group
MOST = 100_000  # test ratings of users drawn at random; more tell the same
RATINGS_AT_ONCE = 1 << 21  # of the rows that are solved together

Bools = npt.NDArray[np.bool_]


class Batch(NamedTuple):
    """Rows to be solved: which test rating each is for, and the ratings that it is solved from, as compressed rows."""

    rows_B: Int64s
    offsets: Int64s
    items_M: Int64s
    ratings_M: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Replay:
    """The errors of a test part, clipped to the scale.

    Attributes:
        since_N: how many ratings the user had given since the fit.
        is_new_N: whether the user has no training rating.
        alone_N, folded_N, actual_N: predictions of the fit alone and with fold-in, and the ratings; float32.
    """

    users: int
    since_N: Int64s
    is_new_N: Bools
    alone_N: Tensor
    folded_N: Tensor
    actual_N: Tensor

    def figures(self) -> dict[str, Any]:
        """Numbers and errors of all ratings, of those after so many ratings since the fit, and the latter of new users.

        Keyed as `--json` prints them. An error of no ratings is None.
        """
        everything_N = np.ones(len(self.since_N), bool)
        return {
            "users": self.users,
            **self._errors(everything_N),
            "since_fit": self._groups(everything_N),
            "new_users": self._groups(self.is_new_N),
        }

    def _groups(self, chosen_N: Bools) -> list[dict[str, Any]]:
        uppers = [*(bound - 1 for bound in SINCE_FIT[1:]), None]
        return [
            {"from": least, "to": most}
            | self._errors(chosen_N & (self.since_N >= least) & (self.since_N <= (np.inf if most is None else most)))
            for least, most in zip(SINCE_FIT, uppers, strict=True)
        ]

    def _errors(self, chosen_N: Bools) -> dict[str, Any]:
        rows = torch.from_numpy(np.flatnonzero(chosen_N))
        if len(rows) == 0:
            return {"ratings": 0, "rmse": None, "rmse_fold_in": None}
        alone, folded = (metrics.rmse(made[rows], self.actual_N[rows]) for made in (self.alone_N, self.folded_N))
        return {"ratings": len(rows), "rmse": alone, "rmse_fold_in": folded}


def replay(
    model: MatrixFactorization, train: Interactions, held_out: Interactions, scale: tuple[float, float]
) -> Replay:
    """Go through held-out ratings in the order of time, ties in file order. Raises ConfigError without timestamps.

    `train` are the ratings of the model, under its ids; `held_out` may have users and items that it does not know.
    """
    if held_out.timestamps_N is None:
        raise ConfigError("--replay: the held-out ratings have no timestamps")
    held_out = _some_users(held_out.take(np.argsort(held_out.timestamps_N, kind="stable")))
    theirs = held_out.aligned(train.user_ids, train.item_ids)
    seen = TrainingRatings.from_ratings(train.users_N, train.items_N, train.ratings_N, train.users)
    since_N = _earlier(held_out.users_N)
    users_N, items_N = (torch.from_numpy(rows_N).long().to(model.device) for rows_N in (theirs.users_N, theirs.items_N))
    alone_N = model(users_N, items_N).clamp(*scale).cpu()
    folded_N = alone_N.clone()
    solver = RowSolver(model, FoldInPrior.learn(model, seen), seen.counts(train.items))
    for batch in _batches(_histories(held_out.users_N, theirs, seen)):
        rows = solver.solve_many(*map(torch.from_numpy, batch[1:]))
        items_B = items_N[torch.from_numpy(batch.rows_B).to(model.device)]
        products_B = (rows.factors_RF * model.item_factors[items_B]).sum(1)
        predicted_B = model.mean + rows.bias_R + model.item_bias[items_B] + products_B
        folded_N[torch.from_numpy(batch.rows_B)] = predicted_B.clamp(*scale).cpu()
    known_N = np.append(seen.offsets.diff().numpy()[:-1] > 0, False)[theirs.users_N]
    users = len(np.unique(held_out.users_N))
    return Replay(users, since_N, ~known_N, alone_N, folded_N, torch.tensor(held_out.ratings_N))


def _some_users(ratings: Interactions) -> Interactions:
    """The ratings of users drawn at random, about `MOST` in all."""
    if len(ratings) <= MOST:
        return ratings
    order_U = np.random.default_rng(0).permutation(ratings.users)
    counts_U = np.bincount(ratings.users_N, minlength=ratings.users)
    before_U = np.cumsum(counts_U[order_U]) - counts_U[order_U]
    chosen_U = order_U[before_U < MOST]
    log.info(
        "the replay is limited to %d users drawn at random, who have %d ratings",
        len(chosen_U),
        counts_U[chosen_U].sum(),
    )
    return ratings.take(np.flatnonzero(np.isin(ratings.users_N, chosen_U)))


def _earlier(users_N: npt.NDArray[np.int32]) -> Int64s:
    """How many ratings of the same user stand before each."""
    order_N = np.argsort(users_N, kind="stable")
    counts_U = np.bincount(users_N)
    earlier_N = np.empty(len(users_N), np.int64)
    earlier_N[order_N] = np.arange(len(users_N)) - np.repeat(np.cumsum(counts_U) - counts_U, counts_U)
    return earlier_N


def _histories(
    users_N: npt.NDArray[np.int32], theirs: Interactions, seen: TrainingRatings
) -> Iterator[tuple[int, Int64s, npt.NDArray[np.float32]]]:
    """Each test rating that is not the first of its user, with the ratings of known items that the user gave before."""
    order_N = np.argsort(users_N, kind="stable")
    offsets, trained_N, given_N = (table.numpy() for table in (seen.offsets, seen.items_N, seen.ratings_N))
    for rows in np.split(order_N, np.flatnonzero(np.diff(users_N[order_N])) + 1):
        if len(rows) < 2:
            continue
        part = slice(offsets[theirs.users_N[rows[0]]], offsets[theirs.users_N[rows[0]] + 1])
        is_known = theirs.items_N[rows] < theirs.items
        items = np.concatenate([trained_N[part], theirs.items_N[rows[is_known]]]).astype(np.int64)
        ratings = np.concatenate([given_N[part], theirs.ratings_N[rows[is_known]]])
        ends = part.stop - part.start + np.cumsum(is_known)
        for row, end in zip(rows[1:].tolist(), ends[:-1].tolist(), strict=True):
            yield row, items[:end], ratings[:end]


def _batches(histories: Iterator[tuple[int, Int64s, npt.NDArray[np.float32]]]) -> Iterator[Batch]:
    waiting: list[tuple[int, Int64s, npt.NDArray[np.float32]]] = []
    size = 0
    for each in histories:
        waiting.append(each)
        size += len(each[1])
        if size >= RATINGS_AT_ONCE:
            yield _batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield _batch(waiting)


def _batch(histories: list[tuple[int, Int64s, npt.NDArray[np.float32]]]) -> Batch:
    rows, items, ratings = zip(*histories, strict=True)
    offsets = np.cumsum([0, *map(len, items)])
    return Batch(np.array(rows), offsets, np.concatenate(items), np.concatenate(ratings))
