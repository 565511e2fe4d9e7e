"""Where a model errs: by rating, by level of its intervals, and by how much it knows of a user or an item.

Shapes: N held-out ratings, L levels of ratings, U users, S of them as newcomers with k ratings and M held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.fold_in import RowSolver, user_solver
from models.fold_in_prior import FoldInPrior
from models.mf import MatrixFactorization
from models.training_ratings import TrainingRatings
from training.data.interactions import Interactions
from training.evaluation import metrics
from training.evaluation.evaluate import TestSet, predict
from training.report.distributions import GROUPS, Floats, Ints, group_names, group_of, levels

PERCENTILES = (5, 25, 50, 75, 95)
INTERVALS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
GIVEN = (0, 1, 2, 5, 10, 20)  # ratings of a newcomer; those who stand for them have at least the last
MOST_NEWCOMERS = 500  # enough for two digits of an RMSE, and few enough for milliseconds
LEAST_NEWCOMERS = 20


@dataclass(frozen=True, slots=True)
class Predicted:
    """Held-out ratings and what was predicted of them, unclipped, shape (N,); float64 on the CPU.

    Attributes:
        actual_N: the ratings.
        ours_N, theirs_N: predicted by the model and by the bias baseline.
        variance_N: of ours; None where the model does not know it.
    """

    actual_N: Tensor
    ours_N: Tensor
    theirs_N: Tensor
    variance_N: Tensor | None


def predicted(model: MatrixFactorization, baseline: MatrixFactorization, test: TestSet) -> Predicted:
    """What both say of the test part."""
    variance_N = model.variance(test.users_N, test.items_N)
    return Predicted(
        test.ratings_N.cpu().double(),
        predict(model, test).cpu().double(),
        predict(baseline, test).cpu().double(),
        None if variance_N is None else variance_N.cpu().double(),
    )


def baseline_metrics(made: Predicted, test: TestSet) -> dict[str, float]:
    """The figures that the bias baseline has too, by the names of `docs/evaluation.md`."""
    return {
        "rmse": metrics.rmse(made.theirs_N, made.actual_N),
        "mae": metrics.mae(made.theirs_N, made.actual_N),
        "rmse_clipped": metrics.rmse(made.theirs_N.clamp(*test.scale), made.actual_N),
        "user_rmse": metrics.user_rmse(made.theirs_N, made.actual_N, test.users_N.cpu()),
    }


@dataclass(frozen=True, slots=True)
class Residuals:
    """Prediction minus rating of the held-out ratings of one level."""

    level: str
    ratings: int
    mean: float
    percentiles: tuple[float, float, float, float, float]


def residuals(made: Predicted) -> list[Residuals]:
    """Level by level. A model that shrinks towards the mean is high for low ratings and low for high ones."""
    actual_N = made.actual_N.float().numpy()  # as they were read: 3.6 is the level 3.6
    errors_N = made.ours_N.numpy() - made.actual_N.numpy()
    scale, counts_L = levels(actual_N)
    level_N = scale.of(actual_N)
    found = []
    for level, (name, count) in enumerate(zip(scale.names, counts_L.tolist(), strict=True)):
        if count:
            of_level = errors_N[level_N == level]
            found.append(Residuals(name, count, float(of_level.mean()), _percentiles(of_level)))
    return found


def _percentiles(values_N: Floats) -> tuple[float, float, float, float, float]:
    p5, p25, p50, p75, p95 = np.percentile(values_N, PERCENTILES).tolist()
    return p5, p25, p50, p75, p95


def calibration(made: Predicted) -> list[tuple[float, float]]:
    """Of each level of an interval, the share of ratings inside; none where variances are not known."""
    if made.variance_N is None:
        return []
    return [(level, metrics.coverage(made.ours_N, made.variance_N, made.actual_N, level)) for level in INTERVALS]


@dataclass(frozen=True, slots=True)
class Group:
    """The held-out ratings of users (items) with so many training ratings, and the RMSE of both models on them."""

    name: str
    begin: int
    ratings: int
    ours: float
    theirs: float


def by_count(made: Predicted, counts_N: Ints) -> list[Group]:
    """Errors by the number of training ratings of the user (item) of each held-out rating; empty groups left out."""
    group_N = group_of(counts_N)
    sizes = np.bincount(group_N)
    ours, theirs = (
        np.bincount(group_N, weights=(values_N - made.actual_N).square().numpy())
        for values_N in (made.ours_N, made.theirs_N)
    )
    names = group_names(counts_N)
    return [
        Group(
            names[group],
            int(GROUPS[group]),
            int(sizes[group]),
            float(np.sqrt(ours[group] / sizes[group])),
            float(np.sqrt(theirs[group] / sizes[group])),
        )
        for group in np.flatnonzero(sizes).tolist()
    ]


@dataclass(frozen=True, slots=True)
class Newcomers:
    """What is predicted of users from few of their ratings, as the service does for those it has not seen.

    Attributes:
        users, ratings: how many users stand for newcomers, and how many held-out ratings they have.
        errors: RMSE on these by the number of ratings given.
        known: RMSE on these with the rows that were fitted to all their training ratings.
    """

    users: int
    ratings: int
    errors: Sequence[tuple[int, float]]
    known: float


@torch.inference_mode()
def newcomers(model: MatrixFactorization, train: Interactions, test: TestSet) -> Newcomers | None:
    """Fold users in from random ones of their training ratings; None where too few users have enough of them.

    The items' rows have seen these users: real newcomers are predicted a little worse.
    """
    rng = np.random.default_rng(0)
    counts_U = np.bincount(train.users_N, minlength=model.users + 1)
    tested_U = np.unique(test.users_N.cpu().numpy())
    able_U = tested_U[counts_U[tested_U] >= GIVEN[-1]]
    if len(able_U) < LEAST_NEWCOMERS:
        return None
    chosen_S = np.sort(rng.choice(able_U, min(MOST_NEWCOMERS, len(able_U)), replace=False))
    place_U = np.full(model.users + 1, -1)
    place_U[chosen_S] = np.arange(len(chosen_S))
    sample = _ratings_of(train, place_U)
    items_Sk, ratings_Sk = _drawn(sample, chosen_S, rng)
    places_N = torch.from_numpy(place_U[test.users_N.cpu().numpy()])
    rows_M = (places_N >= 0).nonzero()[:, 0]
    theirs, places_M = test.take(rows_M), places_N[rows_M].to(model.device)
    solver = _solver(model, sample)
    errors = []
    for given in GIVEN:
        offsets = torch.arange(len(chosen_S) + 1) * given
        folded = solver.solve_many(offsets, items_Sk[:, :given].flatten(), ratings_Sk[:, :given].flatten())
        dots_M = (folded.factors_RF[places_M] * model.item_factors[theirs.items_N]).sum(1)
        predicted_M = dots_M + folded.bias_R[places_M] + model.item_bias[theirs.items_N] + model.mean
        errors.append((given, metrics.rmse(predicted_M, theirs.ratings_N)))
    return Newcomers(len(chosen_S), len(theirs), errors, metrics.rmse(predict(model, theirs), theirs.ratings_N))


def _ratings_of(train: Interactions, place_U: Ints) -> TrainingRatings:
    """The training ratings of users with a place, all others having none."""
    rows = np.flatnonzero(place_U[train.users_N] >= 0)
    columns = (train.users_N[rows], train.items_N[rows], train.ratings_N[rows])
    return TrainingRatings.from_ratings(*columns, len(place_U) - 1)


def _drawn(sample: TrainingRatings, chosen_S: Ints, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """As many ratings of each user as are ever given, in random order: items and ratings, shape (S, k)."""
    offsets = sample.offsets.numpy()
    drawn = [rng.permutation(np.arange(offsets[user], offsets[user + 1]))[: GIVEN[-1]] for user in chosen_S]
    drawn_Sk = torch.from_numpy(np.stack(drawn))
    return sample.items_N[drawn_Sk].long(), sample.ratings_N[drawn_Sk]


def _solver(model: MatrixFactorization, sample: TrainingRatings) -> RowSolver:
    """What folds users in, as the service does, but with a prior learned from a sample of users."""
    return user_solver(model, FoldInPrior.learn(model, sample))
