"""The contents of the page's sections, with numbers as they are written there. `page.html` knows the names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.data.interactions import Interactions
from training.data.store import LiveError
from training.fit.loop import Epoch
from training.report.charts import Chart, Line, numbers
from training.report.distributions import activity_chart, rating_chart
from training.report.formatting import count, figure, percent, short
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
    ("catalogue10", "Items in any list", "share of all items that at least one of these lists has"),
    ("novelty10", "Novelty", "mean self-information of a listed item, in bits; higher is less popular"),
    ("diversity10", "Diversity", "mean distance between two items of a list, by who rated them"),
    ("train_loss", "Training loss", "mean squared error of the training ratings in the last pass"),
)
SOURCES = {"model": "model", "fold_in": "folded in", "unknown": "unknown user or item"}
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
CURVE_POINTS = 100  # of a learning curve at most


def live(result: Result) -> list[tuple[str, ...]]:
    """How far off the service was for the ratings that came in, a row for each version and source."""

    def cells(row: LiveError) -> tuple[str, ...]:
        share = "–" if row.coverage90 is None else percent(row.coverage90)
        errors = [figure(value) for value in (row.rmse, row.bias_rmse, row.mae)]
        return row.version, SOURCES[row.source], count(row.ratings), *errors, share

    return [cells(row) for row in result.train_test.dataset.live_errors]


def data(result: Result) -> dict[str, Any]:
    """The ratings that the published model was fitted on: facts, quantiles and charts."""
    train = result.train_test.train
    users, items = (counts[counts > 0] for counts in map(np.bincount, (train.users_N, train.items_N)))
    return {
        "facts": _facts(result),
        "quantiles": [
            [name, *map(short, np.quantile(counts, QUANTILES))] for name, counts in (("User", users), ("Item", items))
        ],
        "charts": (
            rating_chart(train.ratings_N),
            activity_chart("users", "ratings given", users),
            activity_chart("items", "ratings received", items),
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
        ("Scale", "{:g} to {:g}".format(*ratings.scale)),
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


def _days(part: Interactions) -> str | None:
    """The first and the last day, in UTC; None if unknown."""
    ends = part.first_and_last
    return (
        None
        if ends is None
        else " to ".join(np.array(ends).astype("datetime64[s]").astype("datetime64[D]").astype(str))
    )


def learning_curve(history: Sequence[Epoch]) -> Chart:
    """The error after each pass on training ratings and, where known, on held-out ratings."""
    every = -(-len(history) // CURVE_POINTS)
    shown = [epoch for epoch in history if epoch.number == len(history) or epoch.number % every == 0]
    trained = [(epoch.number, float(epoch.figures["loss"] ** 0.5)) for epoch in shown]
    measured = [(epoch.number, epoch.test_rmse) for epoch in history if epoch.test_rmse is not None]
    text = f"Training ratings: {trained[0][1]:.4f} after the first pass, {trained[-1][1]:.4f} after the last."
    lines = [Line("training ratings", trained, "theirs")]
    if measured:
        text += f" Held-out ratings: {measured[0][1]:.4f} at first, {measured[-1][1]:.4f} at the end."
        lines.insert(0, Line("held-out ratings", measured, "ours"))
    return Chart(
        name="learning-curve",
        title="RMSE after each pass",
        text=text,
        x=numbers("pass over the ratings", [0, len(history)]),
        y=numbers("RMSE", [error for line in lines for _, error in line.points]),
        head=("Pass", "Held-out ratings", "Training ratings"),
        rows=[
            (count(epoch.number), figure(epoch.test_rmse), figure(error))
            for epoch, (_, error) in zip(shown, trained, strict=True)
        ],
        lines=lines,
    )


def previous(result: Result) -> dict[str, Any] | None:
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
