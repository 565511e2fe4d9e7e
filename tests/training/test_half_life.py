"""A job whose recent ratings count more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.registry.directory import load
from training import job
from training.config import JobConfig
from training.errors import ConfigError

RATINGS = [(user, item, 1 + (user + item) % 5) for user in range(12) for item in range(10)]


SMALL = {
    "als": ["sweeps=2", "factors=3", "relevance=false"],
    "bayes": ["trial=0", "samples=2", "burn_in=1", "chains=1", "factors=7", "relevance=false"],
}


def run(folder: Path, days: float, preset: str = "als", **changes: Any) -> dict[str, Any]:
    """The figures of a job on ratings, each so many days after the one before."""
    rows = [(*row, int(1e9 + 86_400 * days * place)) for place, row in enumerate(RATINGS)]
    path = folder / "ratings.csv"
    path.write_text("\n".join(["user,item,rating,timestamp", *(",".join(map(str, row)) for row in rows)]) + "\n")
    options = {
        "data": [str(path)],
        "preset": preset,
        "cache": folder,
        "device": "cpu",
        "overrides": SMALL.get(preset, ()),
    }
    return dict(job.run(JobConfig(**(options | changes)), lambda _: None).figures)


@pytest.mark.parametrize("preset", SMALL)
def test_older_ratings_count_less_and_equally_old_ones_as_ever(tmp_path: Path, preset: str) -> None:
    for days, is_equal in ((0.0, True), (1.0, False)):
        plain, weighted = (run(tmp_path, days, preset, split="random:0.25", half_life=half) for half in (None, 20.0))
        assert (weighted["rmse"] == pytest.approx(plain["rmse"], rel=1e-6)) == is_equal


def test_the_manifest_names_the_half_life(tmp_path: Path) -> None:
    for half_life in (30.0, None):
        run(tmp_path, 1.0, out=tmp_path / "out", half_life=half_life)
        assert load(tmp_path / "out").manifest.trainer.settings.get("half_life") == half_life


def test_a_half_life_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the preset bias cannot weight ratings"):
        run(tmp_path, 1.0, "bias", half_life=5.0)
    untimed = tmp_path / "untimed.csv"
    untimed.write_text("user,item,rating\n1,2,3\n2,1,4\n2,2,5\n")
    with pytest.raises(ConfigError, match="the ratings have no timestamps"):
        run(tmp_path, 1.0, data=[str(untimed)], half_life=5.0)
