"""The plots and figures of one fit, written into the checkpoint's `report/` directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from models.manifest import Drift
from training import metrics
from training.loop import Epoch

FORMATS = ("svg", "png")
MAX_LEVELS = 20  # distinct ratings shown one by one; finer scales are cut into so many bins


def write_report(
    path: Path,
    history: Sequence[Epoch],
    predicted_N: Tensor | None,
    actual_N: Tensor | None,
    variance_N: Tensor | None = None,
    *,
    drift: Drift | None = None,
) -> None:
    """Write the report into the directory `path`: `history.json` and `learning.*`; where there is a test part,
    `residuals.*`; where the model knows its variance, `calibration.*`; where another was served before, `drift.json`.

    `predicted_N` are unclipped predictions for the test ratings `actual_N`, `variance_N` their variances.
    """
    history_file = path / "history.json"
    history_file.write_text(json.dumps([asdict(epoch) for epoch in history], indent=1) + "\n", "utf-8")
    if drift is not None:
        (path / "drift.json").write_text(drift.model_dump_json(indent=1) + "\n", "utf-8")
    with mpl.rc_context({"svg.hashsalt": "ratecast", "svg.fonttype": "none"}):
        _save(_learning_curve(history), path / "learning")
        if predicted_N is not None and actual_N is not None:
            _save(_residuals(predicted_N.cpu().numpy(), actual_N.cpu().numpy()), path / "residuals")
            if variance_N is not None:
                _save(_calibration(predicted_N, variance_N, actual_N), path / "calibration")


def _save(figure: Figure, stem: Path) -> None:
    for extension in FORMATS:
        metadata = {"Date": None} if extension == "svg" else {"Software": None}
        figure.savefig(stem.with_suffix(f".{extension}"), metadata=metadata)


def _figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _learning_curve(history: Sequence[Epoch]) -> Figure:
    figure, axes = _figure("Learning curve", "epoch", "RMSE")
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.figures["loss"] ** 0.5 for epoch in history], label="training (root of the loss)")
    measured = [(epoch.number, epoch.test_rmse) for epoch in history if epoch.test_rmse is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), label="test")
    axes.legend()
    return figure


def _residuals(predicted_N: np.ndarray, actual_N: np.ndarray) -> Figure:
    """Prediction minus rating, a box for each rating: a model that shrinks is high on the left, low on the right."""
    figure, axes = _figure("Residuals by rating", "rating", "prediction − rating")
    levels = np.unique(actual_N)
    if len(levels) > MAX_LEVELS:
        edges = np.linspace(actual_N.min(), actual_N.max(), MAX_LEVELS + 1)
        levels = (edges[:-1] + edges[1:]) / 2
        actual_N = levels[np.clip(np.digitize(actual_N, edges) - 1, 0, MAX_LEVELS - 1)]
    groups = [(predicted_N - actual_N)[actual_N == level] for level in levels]
    axes.boxplot(groups, tick_labels=[f"{level:g}" for level in levels], showfliers=False)
    axes.axhline(0, color="black", linewidth=0.8)
    return figure


def _calibration(predicted_N: Tensor, variance_N: Tensor, actual_N: Tensor) -> Figure:
    """How many ratings lie in the central interval of each level: on the diagonal, the stated variance is right."""
    figure, axes = _figure("Calibration", "level of the interval", "share of test ratings inside")
    levels = np.linspace(0.05, 0.95, 19)
    shares = [metrics.coverage(predicted_N, variance_N, actual_N, level) for level in levels]
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.plot(levels, shares, marker="o", markersize=3)
    return figure
