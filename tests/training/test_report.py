"""The report: its files, and that they are what their names say."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from matplotlib.image import imread

from training.loop import Epoch
from training.report import MAX_LEVELS, write_report

HISTORY = [Epoch(n, 2, {"loss": 1.0 / n}, 1.5 / n, fit_seconds=0.5 * n, examples_per_second=10.0) for n in (1, 2)]
WITHOUT_TEST = [Epoch(1, 1, {"loss": 1.0}, None, fit_seconds=0.5, examples_per_second=10.0)]
LEARNING = {"history.json", "learning.png", "learning.svg"}


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def texts(svg: Path) -> set[str]:
    found = ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own
    return {"".join(element.itertext()).strip() for element in found}


def test_plots_of_a_fit_with_a_test_part(tmp_path: Path) -> None:
    write_report(tmp_path, HISTORY, torch.tensor([3.5, 2.0, 4.0]), torch.tensor([4.0, 1.0, 4.0]))
    assert names(tmp_path) == LEARNING | {"residuals.png", "residuals.svg"}
    assert {"Learning curve", "epoch", "RMSE", "training (root of the loss)", "test"} <= texts(
        tmp_path / "learning.svg"
    )
    assert {"Residuals by rating", "rating", "1", "4"} <= texts(tmp_path / "residuals.svg")
    for name in ("learning.png", "residuals.png"):
        height, width, _ = imread(tmp_path / name).shape
        assert (width, height) == (768, 480)


def test_a_model_that_knows_its_variance_has_a_calibration_plot(tmp_path: Path) -> None:
    write_report(tmp_path, HISTORY, torch.tensor([3.5, 2.0]), torch.tensor([4.0, 1.0]), torch.tensor([1.0, 1.0]))
    assert {"calibration.png", "calibration.svg"} <= names(tmp_path)
    assert {"Calibration", "level of the interval"} <= texts(tmp_path / "calibration.svg")


def test_plots_of_a_fit_without_one(tmp_path: Path) -> None:
    write_report(tmp_path, WITHOUT_TEST, None, None)
    assert names(tmp_path) == LEARNING
    assert "test" not in texts(tmp_path / "learning.svg")


def test_the_history_as_json(tmp_path: Path) -> None:
    write_report(tmp_path, HISTORY, None, None)
    assert json.loads((tmp_path / "history.json").read_text())[1] == {
        "name": "epoch",
        "number": 2,
        "epochs": 2,
        "figures": {"loss": 0.5},
        "test_rmse": 0.75,
        "fit_seconds": 1.0,
        "examples_per_second": 10.0,
    }


@pytest.mark.parametrize(
    "actual",
    [torch.linspace(-10, 10, 500), torch.cat([torch.zeros(5), torch.linspace(90, 100, 50)]), torch.full((9,), 3.0)],
    ids=["fine scale", "gaps in the scale", "one rating"],
)
def test_ratings_on_any_scale(tmp_path: Path, actual: torch.Tensor) -> None:
    write_report(tmp_path, HISTORY, actual + 0.5, actual)
    ticks = [text for text in texts(tmp_path / "residuals.svg") if text.lstrip("−-").replace(".", "").isdigit()]
    assert 1 <= len(ticks) <= 2 * MAX_LEVELS


def test_the_same_fit_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, HISTORY, torch.tensor([3.5]), torch.tensor([4.0]))
    assert {f.name: f.read_bytes() for f in (tmp_path / "one").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "two").iterdir()
    }
