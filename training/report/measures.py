"""Where a model errs: by rating, by level of its intervals, and by number of training ratings.

Shapes: N held-out ratings, L levels of ratings, U users, S of them as new users with k ratings and M held-out ones.
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
from training.report.distributions import GROUPS, Ints, group_names, group_of, levels

PERCENTILES = (5, 25, 50, 75, 95)
INTERVALS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
GIVEN = (0, 1, 2, 5, 10, 20)  # ratings of a new user; users who play one have at least the last number
MAX_NEW_USERS = 500  # enough for two digits of an RMSE, in milliseconds
MIN_NEW_USERS = 20


@dataclass(frozen=True, slots=True)
class Predicted:
    """Held-out ratings with their unclipped predictions, shape (N,), float64 on the CPU.

    Attributes:
        actual_N: the ratings.
        ours_N, theirs_N: predictions of the model and of the bias baseline.
        variance_N: of the model's predictions; None where it does not know them.
    """

    actual_N: Tensor
    ours_N: Tensor
    theirs_N: Tensor
    variance_N: Tensor | None


def predicted(model: MatrixFactorization, baseline: MatrixFactorization, test: TestSet) -> Predicted:
    """The predictions of both models for the test part."""
    variance_N = model.variance(test.users_N, test.items_N)
    return Predicted(
        test.ratings_N.cpu().double(),
        predict(model, test).cpu().double(),
        predict(baseline, test).cpu().double(),
        None if variance_N is None else variance_N.cpu().double(),
    )


def baseline_metrics(made: Predicted, test: TestSet) -> dict[str, float]:
    """Figures of the bias baseline, by their names in `docs/evaluation.md`."""
    return {
        "rmse": metrics.rmse(made.theirs_N, made.actual_N),
        "mae": metrics.mae(made.theirs_N, made.actual_N),
        "rmse_clipped": metrics.rmse(made.theirs_N.clamp(*test.scale), made.actual_N),
        "user_rmse": metrics.user_rmse(made.theirs_N, made.actual_N, test.users_N.cpu()),
    }


@dataclass(frozen=True, slots=True)
class Residuals:
    """Prediction minus rating, over the held-out ratings of one level."""

    level: str
    ratings: int
    mean: float
    percentiles: Sequence[float]


def residuals(made: Predicted) -> list[Residuals]:
    """Level by level, without empty ones."""
    actual_N = made.actual_N.float().numpy()  # as they were read: 3.6 is the level 3.6
    errors_N = made.ours_N.numpy() - made.actual_N.numpy()
    scale, counts_L = levels(actual_N)
    level_N = scale.of(actual_N)
    return [
        Residuals(
            scale.names[level],
            int(counts_L[level]),
            float(of_level.mean()),
            np.percentile(of_level, PERCENTILES).tolist(),
        )
        for level in np.flatnonzero(counts_L)
        for of_level in [errors_N[level_N == level]]
    ]


def calibration(made: Predicted) -> list[tuple[float, float]]:
    """Each level of an interval with the share of ratings inside; empty where variances are not known."""
    if made.variance_N is None:
        return []
    return [(level, metrics.coverage(made.ours_N, made.variance_N, made.actual_N, level)) for level in INTERVALS]


@dataclass(frozen=True, slots=True)
class Group:
    """The held-out ratings of users (items) with a similar number of training ratings, and both models' RMSE."""

    name: str
    begin: int
    ratings: int
    ours: float
    theirs: float


def by_count(made: Predicted, counts_N: Ints) -> list[Group]:
    """Errors by number of training ratings, given that of each held-out rating; without empty groups."""
    group_N = group_of(counts_N)
    sizes = np.bincount(group_N)
    present = np.flatnonzero(sizes)
    ours, theirs = (
        np.sqrt(np.bincount(group_N, weights=(values_N - made.actual_N).square().numpy())[present] / sizes[present])
        for values_N in (made.ours_N, made.theirs_N)
    )
    names = np.array(group_names(counts_N))[present]
    columns = (names.tolist(), GROUPS[present].tolist(), sizes[present].tolist(), ours.tolist(), theirs.tolist())
    return list(map(Group, *columns))


@dataclass(frozen=True, slots=True)
class NewUsers:
    """The errors of folding users in from few of their ratings, as the service does with new users.

    Attributes:
        users, ratings: the number of users and of their held-out ratings.
        errors: RMSE on these by the number of ratings given.
        known: RMSE on these with the rows fitted to all their training ratings.
    """

    users: int
    ratings: int
    errors: Sequence[tuple[int, float]]
    known: float


@torch.inference_mode()
def new_users(model: MatrixFactorization, train: Interactions, test: TestSet) -> NewUsers | None:
    """Fold users in from some of their training ratings, chosen at random; None if too few users have enough.

    The items' rows were fitted to these users too, so the error for real new users is a little higher.
    """
    rng = np.random.default_rng(0)
    counts_U = np.bincount(train.users_N, minlength=model.users + 1)
    tested_U = np.unique(test.users_N.cpu().numpy())
    able_U = tested_U[counts_U[tested_U] >= GIVEN[-1]]
    if len(able_U) < MIN_NEW_USERS:
        return None
    chosen_S = np.sort(rng.choice(able_U, min(MAX_NEW_USERS, len(able_U)), replace=False))
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
    return NewUsers(len(chosen_S), len(theirs), errors, metrics.rmse(predict(model, theirs), theirs.ratings_N))


def _ratings_of(train: Interactions, place_U: Ints) -> TrainingRatings:
    """The training ratings of the chosen users; all others have none."""
    rows = np.flatnonzero(place_U[train.users_N] >= 0)
    columns = (train.users_N[rows], train.items_N[rows], train.ratings_N[rows])
    return TrainingRatings.from_ratings(*columns, len(place_U) - 1)


def _drawn(sample: TrainingRatings, chosen_S: Ints, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random ratings of each user, as many as the longest of `GIVEN`: items and ratings, shape (S, k)."""
    offsets = sample.offsets.numpy()
    drawn = [rng.permutation(np.arange(offsets[user], offsets[user + 1]))[: GIVEN[-1]] for user in chosen_S]
    drawn_Sk = torch.from_numpy(np.stack(drawn))
    return sample.items_N[drawn_Sk].long(), sample.ratings_N[drawn_Sk]


def _solver(model: MatrixFactorization, sample: TrainingRatings) -> RowSolver:
    """Folds users in as the service does, but with a prior learned from a sample of users."""
    return user_solver(model, FoldInPrior.learn(model, sample))
