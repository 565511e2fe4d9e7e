"""Cross-validation: each rating is tested once, and the figures are means of those of the folds."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest

from training.config import JobConfig
from training.cross_validation import cross_validate
from training.data.train_test import read_folds
from training.errors import ConfigError

ROWS = [(user, item, 1 + (user * item) % 5) for user in range(12) for item in range(10) if (user + item) % 7]


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user,item,rating", *(",".join(map(str, row)) for row in ROWS)]) + "\n")
    return JobConfig(data=[str(path)], preset="bias", cache=tmp_path, device="cpu", folds=4, seed=3)


def test_each_rating_is_in_one_test_part_and_in_the_training_part_of_the_others(config: JobConfig) -> None:
    parts = list(read_folds(config, 4))
    held_out = [part.held_out for part in parts if part.held_out is not None]
    assert sorted(len(part) for part in held_out) == [26, 26, 26, 26]
    pairs_N = np.concatenate([part.pairs_N() for part in held_out])
    assert sorted(pairs_N.tolist()) == sorted(parts[0].dataset.ratings.pairs_N().tolist())
    for part in parts:
        assert len(part.train) + len(part.test) == len(ROWS)


def test_figures_are_the_mean_and_the_spread_of_those_of_the_folds(config: JobConfig) -> None:
    figures: dict[str, Any] = cross_validate(config, lambda _: None)
    folds = figures["of_folds"]
    assert (figures["folds"], figures["split"], len(folds), figures["test_ratings"]) == (4, "folds:4", 4, 26)
    for name in ("rmse", "bias_rmse", "train_loss"):
        values = [fold[name] for fold in folds]
        assert len(set(values)) == 4
        assert figures[name] == pytest.approx(mean(values))
        assert figures["spread"][name] == pytest.approx(stdev(values))
    assert figures["coverage90"] is None
    assert "coverage90" not in figures["spread"]


def test_more_folds_than_ratings_are_refused(config: JobConfig) -> None:
    with pytest.raises(ConfigError, match="--folds 105: there are only 104 ratings"):
        list(read_folds(config, 105))
