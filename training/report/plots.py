"""The charts of the page, each with a description and a table of its figures."""

from __future__ import annotations

from collections.abc import Sequence

from training.fit.loop import Epoch
from training.report.charts import Box, Chart, Line, categories, numbers
from training.report.formatting import count, figure, percent, signed
from training.report.measures import Group, NewUsers, Residuals

CURVE_POINTS = 100  # of a learning curve at most
MIN_RATINGS = 20  # in a group whose error is drawn; the table has all groups


def bar_chart(name: str, title: str, label: str, what: str, sizes: Sequence[tuple[str, str, int]]) -> Chart:
    """A bar for each kind, given as its name in the table, its name on the axis and its size."""
    most = max(size for _, _, size in sizes)
    highest = next(kind for kind, _, size in sizes if size == most)
    return Chart(
        name=name,
        title=title,
        text=f"The number of {what} as bars. The highest bar is {most:,}, at {highest}.",
        x=categories(label, [below for _, below, _ in sizes]),
        y=numbers(what, [0, *(size for _, _, size in sizes)]),
        head=(label.removesuffix(", from").capitalize(), what.capitalize()),
        rows=[(kind, count(size)) for kind, _, size in sizes],
        bars=[(place, size) for place, (_, _, size) in enumerate(sizes)],
    )


def learning_curve(history: Sequence[Epoch]) -> Chart:
    """The error after each pass on training ratings and, where known, on held-out ratings."""
    every = -(-len(history) // CURVE_POINTS)
    shown = [epoch for epoch in history if epoch.number == len(history) or epoch.number % every == 0]
    trained = [(epoch.number, float(epoch.figures["loss"] ** 0.5)) for epoch in shown]
    measured = [(epoch.number, epoch.test_rmse) for epoch in history if epoch.test_rmse is not None]
    text = f"Training ratings: {trained[0][1]:.4f} after the first pass, {trained[-1][1]:.4f} after the last."
    if measured:
        text += f" Held-out ratings: {measured[0][1]:.4f} at first, {measured[-1][1]:.4f} at the end."
    lines = [Line("held-out ratings", measured, "ours")] if measured else []
    lines.append(Line("training ratings", trained, "theirs"))
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


def residual_chart(found: Sequence[Residuals]) -> Chart:
    """A box of errors for each level of ratings."""
    lowest, highest = found[0], found[-1]
    return Chart(
        name="residuals",
        title="Prediction minus rating",
        text=f"The mean is {signed(lowest.mean)} for ratings of {lowest.level} and {signed(highest.mean)} for ratings "
        f"of {highest.level}.",
        x=categories("rating", [of_level.level for of_level in found]),
        y=numbers("prediction − rating", [0, *(end for of_level in found for end in of_level.percentiles)]),
        head=("Rating", "Ratings", "Mean", "5 %", "Median", "95 %"),
        rows=[
            (of_level.level, count(of_level.ratings), *map(signed, (of_level.mean, *of_level.percentiles[::2])))
            for of_level in found
        ],
        lines=[Line("no error", [(-0.5, 0), (len(found) - 0.5, 0)], "reference")],
        boxes=[Box(place, of_level.percentiles) for place, of_level in enumerate(found)],
    )


def calibration_chart(inside: Sequence[tuple[float, float]]) -> Chart:
    """The share of ratings inside the intervals of each level."""
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


def count_chart(side: str, found: Sequence[Group]) -> Chart:
    """The errors of both models by the number of training ratings of the user or item."""
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
            Line("model", [(place, group.ours) for place, group in enumerate(drawn)], "ours"),
            Line("bias baseline", [(place, group.theirs) for place, group in enumerate(drawn)], "theirs"),
        ],
    )


def new_user_chart(new: NewUsers) -> Chart:
    """The error on users folded in from few ratings."""
    errors = [error for _, error in new.errors]
    return Chart(
        name="new-users",
        title="New users by ratings given",
        text=f"RMSE {errors[0]:.3f} without any rating, {errors[-1]:.3f} with {new.errors[-1][0]}, "
        f"and {new.known:.3f} when fitted to all their ratings.",
        x=categories("ratings given", [str(given) for given, _ in new.errors]),
        y=numbers("RMSE", [*errors, new.known]),
        head=("Ratings given", "RMSE"),
        rows=[*((str(given), figure(error, 3)) for given, error in new.errors), ("all", figure(new.known, 3))],
        lines=[
            Line("folded in", list(enumerate(errors)), "ours"),
            Line("fitted to all", [(0, new.known), (len(errors) - 1, new.known)], "reference"),
        ],
    )
