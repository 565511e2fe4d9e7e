"""Presets and versions against one another on the same held-out ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointNotFoundError
from training import job
from training.comparison import compare
from training.config import JobConfig
from training.data.synthetic import planted
from training.errors import ConfigError, DataError

SPLIT = "random:0.25"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> str:
    columns = [column.tolist() for column in planted(60, 40, 1_200, np.random.default_rng(0))]
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    rows = [f"u{user},i{item},{rating}" for user, item, rating in zip(*columns, strict=True)]
    path.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    return str(path)


def config(ratings: str, **changes: Any) -> JobConfig:
    options = {"data": [ratings], "preset": "bias", "cache": Path(ratings).parent, "device": "cpu", "split": SPLIT}
    return JobConfig(**(options | changes))


def compared(ratings: str, *names: str, checkpoints: Path | None = None, **changes: Any) -> dict[str, Any]:
    directory = None if checkpoints is None else str(checkpoints)
    return compare(config(ratings, **changes), names, directory, lambda _: None)


def constant(folder: Path) -> str:
    """A preset that hardly learns anything."""
    path = folder / "constant.toml"
    path.write_text('trainer = "bias"\n[settings]\nuser_regularisation = 1e9\nitem_regularisation = 1e9\n')
    return str(path)


def test_what_is_better_is_called_so_and_the_other_way_round_worse(ratings: str, tmp_path: Path) -> None:
    flat = constant(tmp_path)
    found, reverse = compared(ratings, flat, "bias"), compared(ratings, "bias", flat)
    first, second = found["models"]
    assert (found["ratings"], found["split"], first["kind"]) == (300, SPLIT, "preset")
    assert [first[key] for key in ("difference", "low", "high", "verdict")] == [None] * 4
    assert (second["verdict"], reverse["models"][1]["verdict"]) == ("better", "worse")
    assert second["low"] < second["difference"] < second["high"] < 0
    assert second["difference"] == pytest.approx(second["rmse_clipped"] - first["rmse_clipped"])
    assert reverse["models"][1]["difference"] == pytest.approx(-second["difference"])


def test_a_version_is_measured_as_when_it_was_fitted_and_as_its_preset(ratings: str, tmp_path: Path) -> None:
    figures = job.run(config(ratings, out=tmp_path / "out", force=True, refit=True), lambda _: None).figures
    found = compared(ratings, "current", "bias", f"{figures['checkpoint']}", checkpoints=tmp_path / "out")
    assert [model["kind"] for model in found["models"]] == ["version", "preset", "version"]
    assert found["ratings"] <= 300  # what the report keeps is of users and items that the model knows
    for model in found["models"]:
        assert model["rmse_clipped"] == pytest.approx(found["models"][0]["rmse_clipped"], abs=1e-6)
    assert [model["verdict"] for model in found["models"]] == [None, "no difference", "no difference"]


def test_ratings_that_a_version_was_fitted_on_do_not_count(ratings: str, tmp_path: Path) -> None:
    job.run(config(ratings, out=tmp_path / "out", split="none"), lambda _: None)
    with pytest.raises(DataError, match="only 0 of 300 held-out ratings are new to bias and current: at least 100"):
        compared(ratings, "bias", "current", checkpoints=tmp_path / "out")


def test_names_and_ratings_that_cannot_be_used_are_refused(ratings: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'bais' is not one of the presets .*add --checkpoints DIR"):
        compared(ratings, "bais", "als")
    with pytest.raises(CheckpointNotFoundError, match="bais"):
        compared(ratings, "bais", "als", checkpoints=tmp_path)
    with pytest.raises(DataError, match="0 ratings are held out"):
        compared(ratings, "bias", "als", split="none")
    with pytest.raises(DataError, match="12 ratings are held out: at least 100"):
        compared(ratings, "bias", "als", split="random:0.01")
