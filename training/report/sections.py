"""The contents of the page's sections, with numbers as they are written there. `page.html` knows the names."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.data.interactions import Interactions
from training.report import plots
from training.report.charts import Chart
from training.report.distributions import Activity, Ints, activity, levels
from training.report.formatting import count, figure, percent, short
from training.report.measures import (
    Predicted,
    baseline_metrics,
    by_count,
    calibration,
    new_users,
    predicted,
    residuals,
)
from training.results import Result

FIGURES = (  # name, label and meaning, as in docs/evaluation.md
    ("rmse", "RMSE", "unclipped predictions, in rating units; lower is better"),
    ("mae", "MAE", "mean absolute error, in rating units; lower is better"),
    ("rmse_clipped", "RMSE, clipped", "predictions clipped to the scale, as the service answers"),
    ("user_rmse", "RMSE by user", "mean of each user’s RMSE: every user has the same weight"),
    ("coverage90", "Coverage of 90 %", "share of ratings inside their 90 % intervals"),
    ("nll", "Negative log-likelihood", "of the ratings under the predicted distributions, in nats; lower is better"),
    ("ndcg10", "NDCG@10", "lists of ten in their default order; higher is better"),
    ("recall10", "Recall@10", "share of a user’s relevant items in the list of ten"),
    ("ndcg10_rating", "NDCG@10 by r̂", "lists ordered by expected rating"),
    ("train_loss", "Training loss", "mean squared error of the training ratings in the last pass"),
)
Section = dict[str, Any]


def data(result: Result) -> Section:
    """The ratings that the published model was fitted on: facts, quantiles and charts."""
    train = result.train_test.train
    scale, counts_L = levels(train.ratings_N)
    users, items = (activity(counts[counts > 0]) for counts in map(np.bincount, (train.users_N, train.items_N)))
    sizes = list(zip(scale.names, scale.names, counts_L.tolist(), strict=True))
    return {
        "facts": _facts(result),
        "quantiles": [[name, *map(short, side.quantiles)] for name, side in (("User", users), ("Item", items))],
        "charts": (
            plots.bar_chart("ratings", "Ratings", "rating", "ratings", sizes),
            plots.bar_chart("users", "Users by ratings given", "ratings given, from", "users", _groups(users)),
            plots.bar_chart("items", "Items by ratings received", "ratings received, from", "items", _groups(items)),
        ),
    }


def _facts(result: Result) -> list[tuple[str, str]]:
    ratings, figures = result.train_test, result.figures()
    density = len(ratings.train) / (ratings.train.users * ratings.train.items)
    mean, deviation = _moments(ratings.train)
    facts = [
        ("Source", figures["dataset"]),
        ("Users, items", f"{count(figures['users'])}, {count(figures['items'])}"),
        ("Training ratings", f"{count(figures['train_ratings'])}: {percent(density, 3)} of all pairs"),
        ("Held-out ratings", f"{count(figures['test_ratings'])}, by {figures['split']}"),
        ("Rows replaced by a later rating of the same pair", count(ratings.dataset.duplicates)),
        ("Scale", "{:g} to {:g}".format(*ratings.train.scale)),
        ("Mean and standard deviation", f"{mean} and {deviation}"),
    ]
    if days := _days(ratings.train):
        held_out = _days(ratings.test)
        facts.append(("Dates (UTC)", f"{days}; held out: {held_out}" if held_out else days))
    if snapshot := ratings.dataset.snapshot:
        facts.append(("Store, revision", f"{snapshot.store}, {count(snapshot.revision)}"))
    return [*facts, ("Fingerprint", f"{ratings.dataset.fingerprint[:16]}…")]


def _moments(train: Interactions) -> tuple[str, str]:
    return figure(float(train.ratings_N.mean(dtype=np.float64)), 3), figure(train.ratings_N.std(dtype=np.float64), 3)


def _groups(found: Activity) -> list[tuple[str, str, int]]:
    return list(zip(found.names, map(count, found.begins), found.sizes, strict=True))


def _days(part: Interactions) -> str | None:
    """The first and the last day, in UTC; None if unknown."""
    if part.timestamps_N is None or len(part) == 0:
        return None
    ends = np.array([part.timestamps_N.min(), part.timestamps_N.max()])
    return " to ".join(ends.astype("datetime64[s]").astype("datetime64[D]").astype(str))


def errors(result: Result) -> Section | None:
    """What was measured on held-out ratings; None without a test part.

    `calibration` is None where variances are not known, `new_users` where too few users have enough ratings.
    """
    if result.test is None or result.baseline is None or len(result.test) == 0:  # another rank may have all of them
        return None
    made, train = predicted(result.evaluated.model, result.baseline, result.test), result.measured_on.train
    inside, new = calibration(made), new_users(result.evaluated.model, train, result.test)
    return {
        "baseline": baseline_metrics(made, result.test),
        "residuals": plots.residual_chart(residuals(made)),
        "calibration": plots.calibration_chart(inside) if inside else None,
        "by_user": _by_count(made, "user", train.users_N, result.test.users_N.cpu().numpy(), train.users),
        "by_item": _by_count(made, "item", train.items_N, result.test.items_N.cpu().numpy(), train.items),
        "new_users": new,
        "new_users_chart": None if new is None else plots.new_user_chart(new),
    }


def _by_count(made: Predicted, side: str, of_train: np.ndarray, of_test: Ints, size: int) -> Chart:
    """Errors by the training ratings of one side. Unknown ids, the row after the last, have none."""
    return plots.count_chart(side, by_count(made, np.bincount(of_train, minlength=size + 1)[of_test]))


def previous(result: Result) -> Section | None:
    """This version beside the one that was served; None if there was none."""
    served, drift, figures = result.served, result.drift, result.figures()
    if served is None or drift is None:
        return None
    theirs, mean_deviation = served.metrics, _moments(result.train_test.train)
    measured = (served.data.fingerprint, served.data.split, served.trainer.seed)
    return {
        "same_ratings": measured == (result.train_test.dataset.fingerprint, result.run["split"], result.run["seed"]),
        "figures": [
            (label, figure(figures[name]), figure(theirs.get(name)))
            for name, label, _ in FIGURES
            if figures[name] is not None or theirs.get(name) is not None
        ],
        "data": [
            ("Source", figures["dataset"], served.data.name),
            ("Preset", figures["preset"], served.trainer.preset),
            ("Split", figures["split"], served.data.split),
            ("Users", count(figures["users"]), count(served.model.users)),
            ("Items", count(figures["items"]), count(served.model.items)),
            ("Training ratings", count(figures["train_ratings"]), count(served.data.train_ratings)),
            ("Mean rating", mean_deviation[0], figure(drift.rating_mean, 3)),
            ("Deviation", mean_deviation[1], figure(drift.rating_deviation, 3)),
        ],
    }
