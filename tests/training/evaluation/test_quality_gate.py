"""The quality gate lets a model pass only if it beats the biases and is not worse than the one being served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoint.manifest import GateRecord
from models.registry.directory import current_version, load
from training import job
from training.config import JobConfig
from training.fit.loop import Epoch

USERS, ITEMS = 60, 50


def ignore(_: Epoch) -> None:
    pass


@pytest.fixture
def ratings(tmp_path: Path) -> str:
    """Ratings whose structure biases cannot see: users of one kind like what those of the other dislike."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(USERS * ITEMS)[:1800]
    rows = [(cell // ITEMS, cell % ITEMS) for cell in cells.tolist()]
    lines = [f"{user},{item},{3 + (1 if user % 2 == item % 2 else -1) + rng.choice([0, 1])}" for user, item in rows]
    file = tmp_path / "ratings.csv"
    file.write_text("\n".join(["user,item,rating", *lines]) + "\n")
    return str(file)


def fit(ratings: str, out: Path, **changes: Any) -> job.Outcome:
    options = {"data": [ratings], "preset": "als", "split": "random:0.2", "cache": out, "device": "cpu", "out": out}
    return job.run(JobConfig(**(options | changes)), ignore)


def test_a_model_that_beats_the_biases_is_published(ratings: str, tmp_path: Path) -> None:
    outcome = fit(ratings, tmp_path / "out")
    assert outcome.refusal is None
    assert load(tmp_path / "out").manifest.gate == GateRecord(verdict="passed")


def test_one_that_does_not_is_refused_and_nothing_is_published(ratings: str, tmp_path: Path) -> None:
    outcome = fit(ratings, tmp_path / "out", preset="bias")
    assert "does not beat the bias model" in str(outcome.refusal)
    assert outcome.figures["version"] is None
    assert not (tmp_path / "out" / "CURRENT").exists()


def test_force_publishes_it_and_the_manifest_says_so(ratings: str, tmp_path: Path) -> None:
    outcome = fit(ratings, tmp_path / "out", preset="bias", force=True)
    gate = load(tmp_path / "out").manifest.gate
    assert outcome.refusal is None
    assert (gate.verdict, gate.forced) == ("refused", True)
    assert "does not beat the bias model" in gate.reasons[0]


def test_a_model_worse_than_the_served_one_is_refused_beyond_the_tolerance(ratings: str, tmp_path: Path) -> None:
    first = fit(ratings, tmp_path / "out").figures["version"]
    worse = {"overrides": ["regularisation=3"]}
    refused = fit(ratings, tmp_path / "out", **worse)
    assert "above the" in str(refused.refusal)
    assert str(first) in str(refused.refusal)
    assert current_version(tmp_path / "out") == first
    accepted = fit(ratings, tmp_path / "out", tolerance=5.0, **worse)
    assert current_version(tmp_path / "out") == accepted.figures["version"] != first


def test_the_served_model_is_not_judged_by_what_it_was_trained_on(
    ratings: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A served model that has seen every rating would win each comparison by heart."""
    fit(ratings, tmp_path / "out", split="none")
    outcome = fit(ratings, tmp_path / "out", overrides=["factors=4"])
    assert outcome.refusal is None
    assert "0 held-out ratings are new to" in caplog.text


def test_without_held_out_ratings_nothing_is_measured(ratings: str, tmp_path: Path) -> None:
    fit(ratings, tmp_path / "out", split="none")
    assert load(tmp_path / "out").manifest.gate == GateRecord(verdict="not measured", reasons=("no held-out ratings",))


def test_a_broken_served_model_does_not_stand_in_the_way(
    ratings: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = str(fit(ratings, tmp_path / "out").figures["version"])
    (tmp_path / "out" / version / "weights.safetensors").write_bytes(b"torn")
    assert fit(ratings, tmp_path / "out").refusal is None
    assert "cannot be read, so the new model is not compared with it" in caplog.text
