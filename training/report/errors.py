"""Where a model errs: by rating, by level of its intervals, by number of training ratings, and with new users.

Shapes: N held-out ratings, U users, S of them as new users with k ratings and M held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.fold_in import FoldInPrior, RowSolver
from models.mf import MatrixFactorization
from models.training_ratings import TrainingRatings
from training import metrics
from training.data.interactions import Int32s, Interactions
from training.evaluation.evaluate import TestSet, predict
from training.report.charts import Box, Chart, Line, categories, numbers
from training.report.distributions import GROUPS, Ints, group_names, group_of, levels
from training.report.formatting import count, figure, percent, signed
from training.results import Result

PERCENTILES = (5, 25, 50, 75, 95)
INTERVALS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MIN_RATINGS = 20  # in a group whose error is drawn; the table has all groups
GIVEN = (0, 1, 2, 5, 10, 20)  # ratings of a new user; users who play one have at least the last number
MAX_NEW_USERS = 500  # enough for two digits of an RMSE, in milliseconds
MIN_NEW_USERS = 20


class Predicted(NamedTuple):
    """Held-out ratings with the unclipped predictions of the model and of the bias baseline, float64 on the CPU."""

    actual_N: Tensor
    ours_N: Tensor
    theirs_N: Tensor


def section(result: Result) -> dict[str, Any] | None:
    """What was measured on held-out ratings; None without a test part.

    `calibration` is None where variances are not known, `new_users` where too few users have enough ratings.
    """
    model, baseline, test = result.evaluated.model, result.baseline, result.test
    if test is None or baseline is None or len(test) == 0:  # another rank may have all of them
        return None
    train = result.measured_on.train
    made = Predicted(
        test.ratings_N.cpu().double(),
        predict(model, test).cpu().double(),
        predict(baseline, test).cpu().double(),
    )
    new = new_users(model, train, test)
    return {
        "baseline": {
            "rmse": metrics.rmse(made.theirs_N, made.actual_N),
            "mae": metrics.mae(made.theirs_N, made.actual_N),
            "rmse_clipped": metrics.rmse(made.theirs_N.clamp(*test.scale), made.actual_N),
            "user_rmse": metrics.user_rmse(made.theirs_N, made.actual_N, test.users_N.cpu()),
        },
        "residuals": residual_chart(made),
        "calibration": calibration_chart(model, test),
        "by_user": count_chart("user", made, _training_ratings(train.users_N, train.users, test.users_N)),
        "by_item": count_chart("item", made, _training_ratings(train.items_N, train.items, test.items_N)),
        "new_users": new,
        "new_users_chart": None if new is None else new_user_chart(new),
    }


def _training_ratings(of_train: Int32s, size: int, of_test: Tensor) -> Ints:
    """Those of the user (item) of each held-out rating. Unknown ids, the row after the last, have none."""
    ratings_N: Ints = np.bincount(of_train, minlength=size + 1)[of_test.cpu().numpy()]
    return ratings_N


def residual_chart(made: Predicted) -> Chart:
    """A box of prediction minus rating for each level of the ratings, without empty ones."""
    actual_N = made.actual_N.float().numpy()  # as they were read: 3.6 is the level 3.6
    errors_N = made.ours_N.numpy() - made.actual_N.numpy()
    every_name, level_N = levels(actual_N)
    found = {every_name[level]: errors_N[level_N == level] for level in np.unique(level_N)}
    percentiles = [np.percentile(errors, PERCENTILES).tolist() for errors in found.values()]
    names = list(found)
    first, last = (f"{signed(found[name].mean())} for ratings of {name}" for name in (names[0], names[-1]))
    return Chart(
        name="residuals",
        title="Prediction minus rating",
        text=f"The mean is {first} and {last}.",
        x=categories("rating", names),
        y=numbers("prediction − rating", [0, *(end for of_level in percentiles for end in of_level)]),
        head=("Rating", "Ratings", "Mean", "5 %", "Median", "95 %"),
        rows=[
            (name, count(len(errors)), *map(signed, (errors.mean(), *of_level[::2])))
            for (name, errors), of_level in zip(found.items(), percentiles, strict=True)
        ],
        lines=[Line("no error", [(-0.5, 0), (len(names) - 0.5, 0)], "reference")],
        boxes=list(map(Box, range(len(names)), percentiles)),
    )


def calibration_chart(model: MatrixFactorization, test: TestSet) -> Chart | None:
    """The share of ratings inside the intervals of each level; None where the model knows no intervals."""
    inside = []
    for level in INTERVALS:
        intervals = model.intervals(test.users_N, test.items_N, level)
        if intervals is None:
            return None
        inside.append((level, metrics.coverage(*intervals, test.ratings_N)))
    furthest, share = max(inside, key=lambda pair: abs(pair[1] - pair[0]))
    return Chart(
        name="intervals",
        title="Ratings inside their intervals",
        text=f"Furthest from its level: {percent(share)} are inside the {percent(furthest, 0)} intervals.",
        x=numbers("level of the interval", [0, 1]),
        y=numbers("share inside", [0, 1]),
        head=("Level", "Inside"),
        rows=[(percent(level, 0), percent(found)) for level, found in inside],
        lines=[Line("model", inside, "ours"), Line("stated", [(0, 0), (1, 1)], "reference")],
    )


class Group(NamedTuple):
    """The held-out ratings of users (items) with a similar number of training ratings, and both models' RMSE."""

    name: str
    begin: int
    ratings: int
    ours: float
    theirs: float


def count_chart(side: str, made: Predicted, counts_N: Ints) -> Chart:
    """Errors by number of training ratings of one side, given that of each held-out rating; without empty groups."""
    group_N = group_of(counts_N)
    sizes = np.bincount(group_N)
    present = np.flatnonzero(sizes)
    ours, theirs = (
        np.sqrt(np.bincount(group_N, weights=(values_N - made.actual_N).square().numpy())[present] / sizes[present])
        for values_N in (made.ours_N, made.theirs_N)
    )
    names = np.array(group_names(counts_N))[present]
    found = list(map(Group, names.tolist(), GROUPS[present].tolist(), sizes[present].tolist(), ours, theirs))
    drawn = [group for group in found if group.ratings >= MIN_RATINGS] or found
    first, last = drawn[0], drawn[-1]
    return Chart(
        name=f"by-{side}",
        title=f"By the {side}’s training ratings",
        text=f"RMSE of the model: {first.ours:.3f} where the {side} has {first.name} training ratings, "
        f"{last.ours:.3f} where it has {last.name}. Of the bias baseline: {first.theirs:.3f} and {last.theirs:.3f}.",
        x=categories("training ratings, from", [f"{group.begin:,}" for group in drawn]),
        y=numbers("RMSE", [error for group in drawn for error in (group.ours, group.theirs)]),
        head=("Training ratings", "Held out", "Model", "Biases"),
        rows=[(group.name, count(group.ratings), figure(group.ours, 3), figure(group.theirs, 3)) for group in found],
        lines=[
            Line("model", list(enumerate(group.ours for group in drawn)), "ours"),
            Line("bias baseline", list(enumerate(group.theirs for group in drawn)), "theirs"),
        ],
    )


@dataclass(frozen=True, slots=True)
class NewUsers:
    """The errors of folding users in from few of their ratings, as the service does with new users.

    Attributes:
        users, ratings: the number of users and of their held-out ratings.
        errors: RMSE on these by the number of ratings given, as in `GIVEN`.
        known: RMSE on these with the rows fitted to all their training ratings.
    """

    users: int
    ratings: int
    errors: Sequence[float]
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
    rows = np.flatnonzero(place_U[train.users_N] >= 0)
    columns = (train.users_N[rows], train.items_N[rows], train.ratings_N[rows])
    sample = TrainingRatings.from_ratings(*columns, model.users)  # users who were not chosen have none
    items_Sk, ratings_Sk = _drawn(sample, chosen_S, rng)
    places_N = torch.from_numpy(place_U[test.users_N.cpu().numpy()])
    rows_M = (places_N >= 0).nonzero()[:, 0]
    theirs, places_M = test.take(rows_M), places_N[rows_M].to(model.device)
    solver = RowSolver(model, FoldInPrior.learn(model, sample))
    errors = []
    for given in GIVEN:
        offsets = torch.arange(len(chosen_S) + 1) * given
        folded = solver.solve_many(offsets, items_Sk[:, :given].flatten(), ratings_Sk[:, :given].flatten())
        dots_M = (folded.factors_RF[places_M] * model.item_factors[theirs.items_N]).sum(1)
        predicted_M = dots_M + folded.bias_R[places_M] + model.item_bias[theirs.items_N] + model.mean
        errors.append(metrics.rmse(predicted_M, theirs.ratings_N))
    return NewUsers(len(chosen_S), len(theirs), errors, metrics.rmse(predict(model, theirs), theirs.ratings_N))


def _drawn(sample: TrainingRatings, chosen_S: Ints, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random ratings of each user, as many as the longest of `GIVEN`: items and ratings, shape (S, k)."""
    offsets = sample.offsets.numpy()
    drawn = [rng.permutation(np.arange(offsets[user], offsets[user + 1]))[: GIVEN[-1]] for user in chosen_S]
    drawn_Sk = torch.from_numpy(np.stack(drawn))
    return sample.items_N[drawn_Sk].long(), sample.ratings_N[drawn_Sk]


def new_user_chart(new: NewUsers) -> Chart:
    """The error on users folded in from few ratings."""
    given = [str(ratings) for ratings in GIVEN]
    return Chart(
        name="new-users",
        title="New users by ratings given",
        text=f"RMSE {new.errors[0]:.3f} without any rating, {new.errors[-1]:.3f} with {given[-1]}, "
        f"and {new.known:.3f} when fitted to all their ratings.",
        x=categories("ratings given", given),
        y=numbers("RMSE", [*new.errors, new.known]),
        head=("Ratings given", "RMSE"),
        rows=[(name, figure(error, 3)) for name, error in zip([*given, "all"], [*new.errors, new.known], strict=True)],
        lines=[
            Line("folded in", list(enumerate(new.errors)), "ours"),
            Line("fitted to all", [(0, new.known), (len(given) - 1, new.known)], "reference"),
        ],
    )
