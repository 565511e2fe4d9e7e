"""Side information in a job: whom it is about, where it comes from, what it makes possible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.orderings import by_rating
from tests.support.orderings import all_scores
from training import job
from training.config import JobConfig, load_preset
from training.data import train_test
from training.data.split import parse_split
from training.data.train_test import read
from training.errors import ConfigError
from training.fit.loop import Epoch
from training.fitting import make_trainer
from training.runtime import Runtime

USERS, ITEMS = 40, 30


def ignore(_: Epoch) -> None:
    pass


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Ratings that depend on an item's kind alone, and the kinds, of two items more than were rated."""
    rng = np.random.default_rng(0)
    lines = [
        f"u{user},i{item},{(2 if item % 2 else 4) + rng.choice([-0.5, 0.5])}"
        for user in range(USERS)
        for item in range(ITEMS)
        if rng.random() < 0.5
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["user,item,rating", *lines]) + "\n")
    kinds = [f"i{item},{'odd' if item % 2 else 'even'}" for item in range(ITEMS + 2)]
    (tmp_path / "items.csv").write_text("\n".join(["id,kind", *kinds]) + "\n")
    return {"ratings": tmp_path / "ratings.csv", "items": tmp_path / "items.csv", "cache": tmp_path}


def config(files: dict[str, Path], **changes: Any) -> JobConfig:
    options = {"data": [str(files["ratings"])], "preset": "bayes", "cache": files["cache"], "device": "cpu"}
    return JobConfig(**(options | changes))


def test_items_with_attributes_alone_come_after_the_rated_ones(files: dict[str, Path]) -> None:
    ratings = read(config(files, item_attributes=str(files["items"])), with_attributes=True)
    assert ratings.train.item_ids.to_pylist()[-2:] == ["i30", "i31"]
    assert ratings.item_attributes_IA is not None
    assert ratings.item_attributes_IA.shape == (ITEMS + 2, 2)
    assert ratings.user_attributes_UA is None


def test_an_item_nobody_has_rated_is_predicted_from_its_kind(files: dict[str, Path]) -> None:
    settings = config(files, item_attributes=str(files["items"]), overrides=["burn_in=10", "samples=30"])
    preset = load_preset(settings.preset, settings.overrides)
    ratings = read(settings, with_attributes=True)
    trainer = make_trainer(preset, Runtime().training_set(ratings, torch.device("cpu")), 0)
    for _ in range(trainer.epochs):
        trainer.epoch()
    mean_I = all_scores(by_rating(trainer.model()), range(USERS)).mean(0)
    even, odd = mean_I[-2:].tolist()
    assert 3.5 < even < 4.5
    assert 1.5 < odd < 2.5


def test_an_inner_split_keeps_the_attributes_and_those_whom_only_they_describe(files: dict[str, Path]) -> None:
    outer = read(config(files, item_attributes=str(files["items"]), split="random:0.2"), with_attributes=True)
    inner = outer.inner(parse_split("random:0.9"), np.random.default_rng(0))
    assert set(inner.train.item_ids.to_pylist()) == set(outer.train.item_ids.to_pylist())
    assert inner.train.item_ids.to_pylist() != outer.train.item_ids.to_pylist()
    assert len(inner.train) + len(inner.test) == len(outer.train)
    assert inner.item_attributes_IA is not None
    assert outer.item_attributes_IA is not None
    rows = dict(zip(outer.train.item_ids.to_pylist(), outer.item_attributes_IA.tolist(), strict=True))
    found = dict(zip(inner.train.item_ids.to_pylist(), inner.item_attributes_IA.tolist(), strict=True))
    assert found == rows


def test_attributes_for_a_preset_that_uses_none_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="the preset als uses no attributes: leave out"):
        job.run(config(files, preset="als", item_attributes=str(files["items"])), ignore)


def test_attributes_that_are_not_given_are_not_used(files: dict[str, Path]) -> None:
    ratings = read(config(files), with_attributes=True)
    assert ratings.item_attributes_IA is ratings.user_attributes_UA is None


def test_the_attributes_of_a_named_set_are_used_where_they_are_asked_for(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set of this name stands for one that is fetched."""
    kinds = pa.table({"id": [f"i{item}" for item in range(ITEMS)], "year": range(ITEMS)})
    own = read(config(files)).dataset
    monkeypatch.setattr(train_test, "load", lambda *_, **__: replace(own, items=kinds))
    ratings = read(config(files, item_attributes="ml-100k"), with_attributes=True)
    assert ratings.item_attributes_IA is not None
    with pytest.raises(ConfigError, match="--user-attributes ml-100k: this data set has no attributes of users"):
        read(config(files, user_attributes="ml-100k"), with_attributes=True)


def test_a_fit_larger_than_the_memory_is_refused_before_it_starts(files: dict[str, Path]) -> None:
    many = config(files, data=["synthetic:30000x30000x2000"], preset="bayes", overrides=["factors=255", "chains=64"])
    with pytest.raises(ConfigError, match=r"needs about [\d.]+ GB and [\d.]+ GB are free on cpu"):
        job.run(many, ignore)
