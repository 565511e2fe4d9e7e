"""The quality gate: whether a fitted model may replace the served one, and how far the ratings have drifted.

It compares errors on held-out ratings, clipped to the scale as the service answers them, and knows nothing of trainers.
Shapes: N ratings.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from models.checkpoint.manifest import Drift, GateRecord
from models.checkpoint.reader import Checkpoint
from models.mf import MatrixFactorization
from training.communicator import SINGLE_PROCESS, Communicator
from training.data.interactions import Interactions
from training.evaluation.evaluate import TestSet, held_out_rmse

log = logging.getLogger(__name__)
MIN_SHARED = 100  # with fewer held-out ratings that are new to both models there is no comparison


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fitted model and the bias model of the same ratings, on one device, and the ratings that judge both.

    Attributes:
        test: the held-out ratings as these models see them, on their device.
        held_out: the same ratings, row by row, with their ids.
    """

    model: MatrixFactorization
    baseline: MatrixFactorization
    test: TestSet
    held_out: Interactions


def judge(candidate: Candidate | None, served: Checkpoint | None, tolerance: float) -> GateRecord:
    """Refuse a model that does not beat the baseline, or is worse than the served one.

    `tolerance` is how much higher its RMSE may be than that of the served model, as a share. That one is judged only
    by ratings that it was not trained on. Without held-out ratings (no candidate) nothing is measured or refused.
    """
    if candidate is None:
        return GateRecord(verdict="not measured", reasons=("no held-out ratings",))
    ours, theirs = (
        held_out_rmse(model, candidate.test, clipped=True) for model in (candidate.model, candidate.baseline)
    )
    low, high = candidate.test.scale
    if low == high:
        return GateRecord(verdict="refused", reasons=(f"all ratings are {low:g}: there is nothing to predict",))
    reasons = [] if ours < theirs else [f"RMSE {ours:.4f} does not beat the bias model's {theirs:.4f}"]
    if served is not None:
        reasons += _against_served(candidate, served, tolerance)
    return GateRecord(verdict="refused" if reasons else "passed", reasons=tuple(reasons))


def _against_served(candidate: Candidate, served: Checkpoint, tolerance: float) -> list[str]:
    held_out = candidate.held_out.aligned(served.users.ids, served.items.ids)
    rows = _new_to(served, held_out)
    new = candidate.test.communicator.total(len(rows))
    if new < MIN_SHARED:
        log.warning("the model is not compared with %s: only %d held-out ratings are new to it", served.version, new)
        return []
    theirs = held_out_rmse(served.model, _as_test_set(served, held_out.take(rows), candidate), clipped=True)
    ours = held_out_rmse(candidate.model, candidate.test.take(torch.from_numpy(rows)), clipped=True)
    if ours <= theirs * (1 + tolerance):
        return []
    return [
        f"RMSE {ours:.4f} is more than {tolerance:.1%} above the {theirs:.4f} of the served version {served.version}"
    ]


def _new_to(served: Checkpoint, held_out: Interactions) -> npt.NDArray[np.int64]:
    """Rows of `held_out`, by the served model's ids, whose pair of user and item it was not trained on."""
    offsets, items_N = served.seen.offsets.numpy(), served.seen.items_N.numpy()
    users_N = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.flatnonzero(~np.isin(held_out.pairs_N(), users_N * (held_out.items + 1) + items_N))


def _as_test_set(served: Checkpoint, held_out: Interactions, candidate: Candidate) -> TestSet:
    """Held-out ratings by the served model's ids, as it sees them."""
    return replace(
        candidate.test,
        users_N=torch.from_numpy(held_out.users_N).long(),
        items_N=torch.from_numpy(held_out.items_N).long(),
        ratings_N=torch.from_numpy(held_out.ratings_N),
        scale=(served.manifest.model.rating_min, served.manifest.model.rating_max),
    )


def measure_drift(train: Interactions, served: Checkpoint, communicator: Communicator = SINGLE_PROCESS) -> Drift:
    """How the training ratings differ from those that the served model was fitted on."""
    theirs = train.aligned(served.users.ids, served.items.ids)
    known_users_N, known_items_N = theirs.users_N < theirs.users, theirs.items_N < theirs.items
    shares = {"known_users": known_users_N, "known_items": known_items_N, "coverage": known_users_N & known_items_N}
    return Drift(
        against=served.version,
        rating_mean=served.manifest.data.rating_mean,
        rating_deviation=served.manifest.data.rating_deviation,
        **{
            name: communicator.pooled(float(known_N.mean()) if len(train) else 0.0, len(train))
            for name, known_N in shares.items()
        },
    )
