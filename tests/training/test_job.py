"""The whole recipe on a small file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from models.checkpoint.files import ITEM_SCHEMA, RELEVANCE
from models.errors import DeviceUnavailableError
from models.registry.directory import load, versions
from models.relevance import RelevanceHead
from tests.support.data import interactions
from training import job
from training.config import JobConfig
from training.data.train_test import read
from training.errors import ConfigError, OverlapError
from training.fit.loop import Epoch
from training.fit.relevance import FINAL_SWEEPS, MILDER, TRIAL_SWEEPS, RelevanceSettings
from training.results import catalogue

KEYS = [
    "dataset",
    "split",
    "preset",
    "trainer",
    "device",
    "threads",
    "seed",
    "users",
    "items",
    "train_ratings",
    "test_ratings",
    "train_loss",
    "rmse",
    "mae",
    "rmse_clipped",
    "user_rmse",
    "bias_rmse",
    "coverage90",
    "nll",
    "ndcg10",
    "recall10",
    "ndcg10_rating",
    "catalogue10",
    "novelty10",
    "diversity10",
    "fit_seconds",
    "relevance_seconds",
    "examples_per_second",
    "peak_memory_mb",
    "rows",
    "dropped",
    "duplicates",
    "erased_users",
    "erased_ratings",
    "scale",
    "first_rating",
    "last_rating",
    "histogram",
    "version",
    "checkpoint",
]
HELD_OUT = [
    "rmse",
    "mae",
    "rmse_clipped",
    "user_rmse",
    "bias_rmse",
    "coverage90",
    "nll",
    "ndcg10",
    "recall10",
    "ndcg10_rating",
    "catalogue10",
    "novelty10",
    "diversity10",
]
TRAIN = [(user, item, 1 + (user + item) % 5, 100 * user + item) for user in range(12) for item in range(10)]
TEST = [(user, item, 1 + (user + item) % 5, 9000) for user in range(12) for item in range(10, 12)]


def ignore(_: Epoch) -> None:
    pass


def csv(path: Path, rows: Iterable[tuple[object, ...]]) -> str:
    lines = ("user,item,rating,timestamp", *(",".join(map(str, row)) for row in rows))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(tmp_path: Path, **changes: Any) -> job.Outcome:
    options = {"data": [csv(tmp_path / "ratings.csv", TRAIN)], "preset": "bias", "cache": tmp_path, "device": "cpu"}
    return job.run(JobConfig(**(options | changes)), ignore)


def test_every_key_is_there_and_in_order(tmp_path: Path) -> None:
    assert list(run(tmp_path, split="last-out").figures) == KEYS


def test_the_outcome_has_the_facts_of_the_run(tmp_path: Path) -> None:
    figures = run(tmp_path, split="random:0.25", seed=5, threads=1).figures
    assert {key: figures[key] for key in KEYS[:11]} == {
        "dataset": "ratings.csv",
        "split": "random:0.25",
        "preset": "bias",
        "trainer": "bias",
        "device": "cpu",
        "threads": 1,
        "seed": 5,
        "users": 12,
        "items": 10,
        "train_ratings": 90,
        "test_ratings": 30,
    }
    assert figures["rmse"] == figures["bias_rmse"] > 0
    assert figures["version"] is figures["checkpoint"] is None


def test_without_a_test_part_its_figures_are_null(tmp_path: Path) -> None:
    figures = run(tmp_path, split="none").figures
    assert [figures[key] for key in HELD_OUT] == [None] * len(HELD_OUT)
    assert figures["train_loss"] > 0


def test_what_is_published_is_what_was_fitted(tmp_path: Path) -> None:
    figures = run(tmp_path, split="none", out=tmp_path / "out", seed=7, overrides=["epochs=3"]).figures
    checkpoint = load(tmp_path / "out")
    assert (checkpoint.version, str(tmp_path / "out" / checkpoint.version)) == (
        figures["version"],
        figures["checkpoint"],
    )
    assert checkpoint.users.ids.to_pylist() == [str(user) for user in range(12)]
    assert checkpoint.seen.of(3).tolist() == list(range(10))
    assert checkpoint.manifest.trainer.settings["epochs"] == 3
    assert checkpoint.manifest.trainer.seed == 7
    assert checkpoint.manifest.data.train_ratings == 120
    assert checkpoint.manifest.model.rating_max == 5
    assert {"report/index.html", "report/history.json"} <= set(checkpoint.manifest.files)


def test_a_seed_repeats_the_published_tables(tmp_path: Path) -> None:
    options = {"split": "random:0.1", "preset": "textbook", "overrides": ["epochs=2", "factors=4"], "force": True}
    first, second = (run(tmp_path, out=tmp_path / "out", **options).figures["version"] for _ in range(2))
    names = ("weights.safetensors", "seen.safetensors", "users.arrow", "items.arrow")
    assert all(
        (tmp_path / "out" / first / name).read_bytes() == (tmp_path / "out" / second / name).read_bytes()
        for name in names
    )


def published_head(tmp_path: Path, **changes: Any) -> tuple[RelevanceHead, Path]:
    """The head that a run with the preset `als` publishes, and the directory of its version."""
    figures = run(tmp_path, preset="als", out=tmp_path / "out", **changes).figures
    head = load(tmp_path / "out").relevance
    assert head is not None
    assert figures["relevance_seconds"] > 0
    return head, Path(str(figures["checkpoint"]))


def test_a_preset_with_a_head_publishes_one_and_how_it_was_fitted(tmp_path: Path) -> None:
    head, _ = published_head(tmp_path, overrides=["relevance.factors=5", "relevance.sweeps=2"])
    assert (len(head.user_factors), len(head.item_factors), head.rule.solved_factors) == (13, 11, 5)
    trainer = load(tmp_path / "out").manifest.trainer
    assert trainer.settings["relevance"] == RelevanceSettings(factors=5, sweeps=2).model_dump()


def test_its_seed_repeats_the_head_and_another_gives_another(tmp_path: Path) -> None:
    heads = [published_head(tmp_path, seed=seed, force=True)[1] / RELEVANCE for seed in (0, 0, 1)]
    first, same, other = (file.read_bytes() for file in heads)
    assert first == same != other


def test_without_a_head_the_manifest_says_null_and_lists_are_ordered_by_rating(tmp_path: Path) -> None:
    options = {"preset": "als", "overrides": ["relevance=false"], "split": "random:0.2", "relevant": 1.0}
    figures = run(tmp_path, out=tmp_path / "out", force=True, **options).figures
    checkpoint = load(tmp_path / "out")
    assert checkpoint.relevance is figures["relevance_seconds"] is None
    assert checkpoint.manifest.trainer.settings["relevance"] is None
    assert figures["ndcg10"] == figures["ndcg10_rating"]


def test_the_rating_model_does_not_depend_on_the_head(tmp_path: Path) -> None:
    options = {"preset": "als", "out": tmp_path / "out", "split": "random:0.2", "force": True}
    figures = [run(tmp_path, overrides=[f"relevance={choice}"], **options).figures for choice in ("true", "false")]
    assert figures[0]["rmse"] == figures[1]["rmse"]
    assert figures[0]["ndcg10_rating"] == figures[1]["ndcg10_rating"]


def test_sweeps_of_the_head_are_reported_after_the_epochs_under_their_own_name(tmp_path: Path) -> None:
    reported = list[Epoch]()
    data = csv(tmp_path / "ratings.csv", TRAIN)
    overrides = ["sweeps=2", "relevance.sweeps=3"]
    job.run(JobConfig(data=[data], preset="als", cache=tmp_path, device="cpu", overrides=overrides), reported.append)
    named = [(epoch.name, epoch.number, epoch.epochs) for epoch in reported]
    sweeps = 3 + TRIAL_SWEEPS * len(MILDER) + FINAL_SWEEPS
    expected = [("epoch", 1, 2), ("epoch", 2, 2), *(("relevance", n, sweeps) for n in range(1, sweeps + 1))]
    assert named == expected


def test_an_interruption_of_the_head_keeps_the_saved_fit_which_goes_once_both_are_done(
    tmp_path: Path,
) -> None:
    def interrupt(epoch: Epoch) -> None:
        if epoch.name == "relevance":
            raise KeyboardInterrupt

    saved, ratings = tmp_path / "saved", csv(tmp_path / "ratings.csv", TRAIN)
    config = JobConfig(data=[ratings], preset="als", cache=tmp_path, device="cpu", resume=saved, save_every=0)
    with pytest.raises(KeyboardInterrupt):
        job.run(config, interrupt)
    assert saved.exists()
    resumed = list[Epoch]()
    job.run(config, resumed.append)
    assert {epoch.name for epoch in resumed} == {"relevance"}
    assert not saved.exists()


def test_a_head_that_would_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.runtime.available_memory", lambda _: 100_000)
    run(tmp_path, preset="als", overrides=["relevance=false"])
    with pytest.raises(ConfigError, match=r"this fit needs about .* use fewer factors"):
        run(tmp_path, preset="als", overrides=["relevance.factors=1024"])


def test_a_test_file_is_the_test_part(tmp_path: Path) -> None:
    """Its items are unknown to the model, which still answers."""
    figures = run(tmp_path, test=csv(tmp_path / "held-out.csv", TEST), split="last-out").figures
    assert (figures["split"], figures["train_ratings"], figures["test_ratings"]) == ("test:held-out.csv", 120, 24)
    assert figures["rmse"] > 0
    assert figures["recall10"] == 0


def test_a_replay_adds_its_figures(tmp_path: Path) -> None:
    later = csv(tmp_path / "later.csv", TEST)
    for options, number in (({"split": "time:0.25"}, 30), ({"test": later}, 24)):
        found = run(tmp_path, replay=True, **options).figures["replay"]
        assert (found["ratings"], found["since_fit"][0]["from"]) == (number, 0)
        assert found["since_fit"][0]["rmse"] == found["since_fit"][0]["rmse_fold_in"]
    for split in ("random:0.25", "last-out", "none"):
        with pytest.raises(ConfigError, match=r"use --split time:0\.1, or --test FILE"):
            run(tmp_path, replay=True, split=split)


def test_a_test_file_that_overlaps_is_refused_and_nothing_published(tmp_path: Path) -> None:
    overlapping = csv(tmp_path / "held-out.csv", [*TEST, TRAIN[0]])
    with pytest.raises(OverlapError, match="1 of 25 test pairs"):
        run(tmp_path, test=overlapping, out=tmp_path / "out")
    assert versions(tmp_path / "out") == []


@pytest.mark.parametrize("change", [{"preset": "no"}, {"device": "no"}, {"split": "no"}, {"overrides": ["no=1"]}])
def test_bad_options_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, DeviceUnavailableError)):
        run(tmp_path, **change)


def test_the_catalogue_stands_in_the_order_of_the_rows() -> None:
    train = interactions([(0, 2, 4.0), (0, 0, 2.0), (1, 2, 5.0), (1, 1, 3.0)], users=2, items=3)
    items = {"id": ["i9", "i2", "i0"], "title": ["Nine", "Two", "Zero"], "year": [1999, 2002, None]}
    described = pa.table(items | {"genres": [[], ["Drama"], None], "labels": [["color:red"], None, []]})
    described = described.cast(pa.schema([ITEM_SCHEMA.field(name) for name in described.column_names]))
    table = catalogue(described, train)
    assert table.schema == ITEM_SCHEMA
    assert table.to_pydict() == {
        "id": ["i0", "i1", "i2"],
        "title": ["Zero", None, "Two"],
        "year": [None, None, 2002],
        "genres": [None, None, ["Drama"]],
        "labels": [[], None, None],
        "mean_rating": [2.0, 3.0, 4.5],
        "ratings": [1, 1, 2],
    }


def test_the_catalogue_of_data_that_describes_nothing_is_ids_and_means() -> None:
    train = interactions([(0, 0, 4.0), (1, 1, 2.0)], users=2, items=2)
    table = catalogue(None, train)
    assert table["title"].null_count == table["year"].null_count == table["genres"].null_count == 2
    assert table["mean_rating"].to_pylist() == [4.0, 2.0]


def test_what_is_known_of_items_outlives_a_source_of_ratings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a store is: titles come from the version that was current before."""
    ratings, out = csv(tmp_path / "ratings.csv", TRAIN), tmp_path / "out"
    described = pa.table(
        {
            "id": ["3", "5"],
            "title": ["Three", None],
            "year": [1933, 1955],
            "genres": [["A", "B"], None],
            "labels": [None, ["color:red"]],
        }
    )
    plain = read(JobConfig(data=[ratings], preset="bias", cache=tmp_path))
    with_items = replace(plain, dataset=replace(plain.dataset, items=described))
    monkeypatch.setattr("training.data.train_test.read", lambda *_, **__: with_items)
    job.run(JobConfig(data=[ratings], preset="bias", cache=tmp_path, out=out), ignore)
    monkeypatch.undo()
    job.run(JobConfig(data=[ratings], preset="bias", cache=tmp_path, out=out), ignore)
    loaded = load(out)
    (three,) = loaded.catalogue.slice(loaded.items.row("3"), 1).to_pylist()
    assert (three["title"], three["year"], three["genres"]) == ("Three", 1933, ["A", "B"])
    assert loaded.manifest.data.drift is not None


def test_held_out_ratings_are_put_back_once_the_model_has_passed(tmp_path: Path) -> None:
    ratings, out = csv(tmp_path / "ratings.csv", [*TRAIN, *TEST]), tmp_path / "out"
    options = {"data": [ratings], "preset": "als", "split": "random:0.2", "cache": tmp_path, "out": out, "force": True}
    figures = job.run(JobConfig(**options, refit=True), ignore).figures
    data = load(out).manifest.data
    assert (data.train_ratings, data.test_ratings) == (len(TRAIN) + len(TEST), -(-len(TRAIN + TEST) // 5))
    assert figures["rmse"] == pytest.approx(job.run(JobConfig(**options), ignore).figures["rmse"])


def test_refit_without_a_held_out_part_is_refused(tmp_path: Path) -> None:
    ratings = csv(tmp_path / "ratings.csv", TRAIN)
    with pytest.raises(ConfigError, match="--refit needs --split"):
        job.run(JobConfig(data=[ratings], preset="bias", cache=tmp_path, out=tmp_path / "out", refit=True), ignore)


def test_a_refit_replaces_the_saved_state_of_the_first_fit_and_deletes_its_own(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    options = {"preset": "als", "split": "random:0.2", "out": tmp_path / "out", "force": True, "refit": True}
    figures = run(tmp_path, resume=saved, save_every=0, **options).figures
    assert figures["train_ratings"] == len(TRAIN)
    assert not saved.exists()


def test_the_served_checkpoint_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"preset": "als", "split": "random:0.2", "out": tmp_path / "out", "force": True}
    run(tmp_path, **options)
    loaded = list[Path]()
    monkeypatch.setattr(job, "load", lambda directory: loaded.append(directory) or load(directory))
    run(tmp_path, **options, warm_start=True, refit=True)
    assert loaded == [tmp_path / "out"]
