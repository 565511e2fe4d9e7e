"""The contents of the page: the ratings that were fitted, and the errors on those that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.interactions import Interactions
from training.report import plots
from training.report.charts import Chart
from training.report.distributions import Activity, Ints, activity, levels
from training.report.measures import (
    NewUsers,
    Predicted,
    baseline_metrics,
    by_count,
    calibration,
    new_users,
    predicted,
    residuals,
)
from training.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The ratings.

    Attributes:
        train_days, test_days: the first and the last day, in UTC; None if unknown.
        density: the share of all pairs of users and items that are rated.
        mean, deviation: of the training ratings.
        users, items: their numbers of ratings.
        charts: the distributions of ratings, users and items.
    """

    train_days: tuple[str, str] | None
    test_days: tuple[str, str] | None
    density: float
    mean: float
    deviation: float
    users: Activity
    items: Activity
    charts: Sequence[Chart]


def data(result: Result) -> Data:
    """What the published model was fitted on."""
    train = result.train_test.train
    scale, counts_L = levels(train.ratings_N)
    users, items = (activity(counts[counts > 0]) for counts in map(np.bincount, (train.users_N, train.items_N)))
    sizes = list(zip(scale.names, scale.names, counts_L.tolist(), strict=True))
    return Data(
        train_days=_days(train),
        test_days=_days(result.train_test.test),
        density=len(train) / (train.users * train.items),
        mean=float(train.ratings_N.mean(dtype=np.float64)),
        deviation=float(train.ratings_N.std(dtype=np.float64)),
        users=users,
        items=items,
        charts=(
            plots.bar_chart("ratings", "Ratings", "rating", "ratings", sizes),
            plots.bar_chart("users", "Users by ratings given", "ratings given, from", "users", _groups(users)),
            plots.bar_chart("items", "Items by ratings received", "ratings received, from", "items", _groups(items)),
        ),
    )


def _groups(found: Activity) -> list[tuple[str, str, int]]:
    begins = [f"{begin:,}" for begin in found.begins]
    return list(zip(found.names, begins, found.sizes, strict=True))


def _days(part: Interactions) -> tuple[str, str] | None:
    if part.timestamps_N is None or len(part) == 0:
        return None
    ends = np.array([part.timestamps_N.min(), part.timestamps_N.max()])
    first, last = ends.astype("datetime64[s]").astype("datetime64[D]").astype(str).tolist()
    return first, last


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What is measured on held-out ratings.

    Attributes:
        baseline: figures of the bias baseline, by their names in `docs/evaluation.md`.
        calibration: None where variances are not known.
        new_users, new_users_chart: None where too few users have enough ratings.
    """

    baseline: dict[str, float]
    residuals: Chart
    calibration: Chart | None
    by_user: Chart
    by_item: Chart
    new_users: NewUsers | None
    new_users_chart: Chart | None


def errors(result: Result) -> Errors | None:
    """What was measured; None without a test part."""
    if result.test is None or result.baseline is None or len(result.test) == 0:  # another rank may have all of them
        return None
    made = predicted(result.evaluated.model, result.baseline, result.test)
    train = result.measured_on.train
    inside, new = calibration(made), new_users(result.evaluated.model, train, result.test)
    return Errors(
        baseline=baseline_metrics(made, result.test),
        residuals=plots.residual_chart(residuals(made)),
        calibration=plots.calibration_chart(inside) if inside else None,
        by_user=_by_count(made, "user", train.users_N, result.test.users_N.cpu().numpy(), train.users),
        by_item=_by_count(made, "item", train.items_N, result.test.items_N.cpu().numpy(), train.items),
        new_users=new,
        new_users_chart=None if new is None else plots.new_user_chart(new),
    )


def _by_count(made: Predicted, side: str, of_train: np.ndarray, of_test: Ints, size: int) -> Chart:
    """Errors by the training ratings of one side. Unknown ids, the row after the last, have none."""
    return plots.count_chart(side, by_count(made, np.bincount(of_train, minlength=size + 1)[of_test]))
