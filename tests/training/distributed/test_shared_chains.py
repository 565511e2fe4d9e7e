"""Ranks that have all ratings each run some of the chains of `bayes`, and publish what one process does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint.reader import Checkpoint
from models.registry.directory import load
from tests.support import ranks as support
from training import job
from training.config import JobConfig
from training.data.train_test import read
from training.distributed.state import FACTS
from training.runtime import Runtime

pytestmark = pytest.mark.slow  # each starts several processes
SETTINGS = (
    "factors=7",
    "trial=20",
    "burn_in=4",
    "samples=20",
    "rank=160",
    "relevance=false",
)  # the rank of any model here
ONE_VARIANT = ("effects=yes", "heavy_tails=no")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planted ratings in the order of nothing, in one file and in parts."""
    folder, rng = tmp_path_factory.mktemp("chains"), np.random.default_rng(0)
    users, items = 300, 150
    p_UF, q_IF, bias_I = rng.normal(size=(users, 2)), rng.normal(size=(items, 2)), rng.normal(size=items)
    users_N, items_N = np.divmod(rng.permutation(users * items)[:6000], items)
    ratings_N = 3 + (p_UF[users_N] * q_IF[items_N]).sum(1) / 2 + bias_I[items_N] / 2 + rng.normal(size=6000) / 2
    table = pa.table({"user": users_N, "item": items_N, "rating": np.round(ratings_N, 1)})
    pa_csv.write_csv(table, folder / "whole.csv")
    (folder / "parts").mkdir()
    for number in range(3):
        part = folder / "parts" / f"{number}.parquet"
        pq.write_table(table.slice(2000 * number, 2000), part, row_group_size=700)
    return folder


def fitted_by_ranks(folder: Path, out: Path, ranks: int, *settings: str) -> tuple[Checkpoint, str]:
    """What so many ranks publish, and print."""
    code, output = support.run(ranks, "training", "fit", *arguments(folder, out, *settings))
    assert code == 0, output
    return load(out), output


def arguments(folder: Path, out: Path, *settings: str) -> list[str]:
    words = ["--data", folder / "parts", "--split", "random:0.1", "--preset", "bayes", "--seed", "3", "--device", "cpu"]
    words += [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return [str(word) for word in (*words, "--out", out, "--force", "--json")]


def fitted_by_one(folder: Path, out: Path, *settings: str) -> Checkpoint:
    """What one process publishes."""
    config = JobConfig(
        data=[str(folder / "whole.csv")], preset="bayes", cache=folder, split="random:0.1", seed=3, device="cpu",
        overrides=(*SETTINGS, *settings), out=out, threads=1, force=True,
    )  # fmt: skip
    assert job.run(config, lambda _: None).refusal is None
    return load(out)


@pytest.fixture(scope="module")
def published(folder: Path) -> Checkpoint:
    return fitted_by_one(folder, folder / "plain")


def assert_same(found: Checkpoint, expected: Checkpoint, tolerance: float = 1e-4) -> None:
    """The same ids, training ratings, and, to some digits, predictions, variances and figures."""
    assert found.users.ids == expected.users.ids
    assert found.items.ids == expected.items.ids
    assert torch.equal(found.seen.items_N, expected.seen.items_N)
    products = [one.model.user_factors @ one.model.item_factors.T for one in (found, expected)]  # columns turn freely
    torch.testing.assert_close(*products, rtol=tolerance, atol=tolerance)
    for name in ("user_bias", "item_bias", "user_variance", "item_variance", "interval_deviations"):
        tables = (getattr(one.model, name) for one in (found, expected))
        torch.testing.assert_close(*tables, rtol=tolerance, atol=tolerance)
    assert found.manifest.metrics["rmse"] == pytest.approx(expected.manifest.metrics["rmse"], rel=tolerance)


def test_every_rank_has_the_ratings_of_one_process_in_their_order(folder: Path) -> None:
    train = Runtime().training_set(read(support.job_config(folder, "whole.csv", "random:0.1")), torch.device("cpu"))
    for of_rank in support.found("everything", folder, 3):
        for users, items, *columns in of_rank:
            assert (users, items) == (train.users, train.items)
            expected = (train.users_N, train.items_N, train.ratings_N, train.ratings_N > 3)
            for column_N, expected_N in zip(columns, expected, strict=True):
                assert torch.equal(column_N, expected_N)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_publish_the_model_of_one_process_that_runs_as_many_chains(
    ranks: int, folder: Path, tmp_path: Path, published: Checkpoint
) -> None:
    """Three ranks run three chains in place of two, with fewer sweeps each, so one process is told to."""
    expected = published if ranks < 3 else fitted_by_one(folder, tmp_path / "plain", "chains=3", "samples=14")
    found, output = fitted_by_ranks(folder, tmp_path / "out", ranks, *(() if ranks < 3 else ("samples=21",)))
    assert "the ranks share the chains, and each has all ratings" in output
    assert_same(found, expected)


def test_ratings_that_do_not_fit_a_rank_are_spread_by_user_and_the_log_says_so(folder: Path) -> None:
    for lines, rmse, bias_rmse in support.found("fit_without_room", folder, 2):
        (line,) = (line for line in lines if line.startswith("the ranks share"))
        assert re.fullmatch(
            r"the ranks share the users: all ratings and the chains on them need about \S+ GB, "
            r"and \S+ GB are free on a rank",
            line,
        )
        assert rmse < bias_rmse


def saved_fit(folder: Path, tmp_path: Path, *settings: str) -> list[str]:
    saved = ("--resume", tmp_path / "state", "--save-every", "0")
    return [*arguments(folder, tmp_path / "out", *settings), *map(str, saved)]


def test_a_job_whose_rank_is_killed_publishes_the_model_of_one_that_was_not(
    folder: Path, tmp_path: Path, published: Checkpoint
) -> None:
    options = ("--standalone", "--max-restarts", "2")
    lines: list[str] = []
    with support.running(
        support.torchrun(2, "training", "fit", *saved_fit(folder, tmp_path), options=options)
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("epoch 12/") and sum("epoch 12/" in line for line in lines) == 1:
                [child for child in psutil.Process(process.pid).children() if "fit" in child.cmdline()][-1].kill()
        assert process.wait() == 0, "".join(lines)
    assert sum(line.startswith("fitting on") for line in lines) == 2
    assert sum(line.startswith("epoch 1/") for line in lines) == 1
    assert_same(load(tmp_path / "out"), published, tolerance=1e-3)
    figures: dict[str, Any] = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    assert figures["version"] == load(tmp_path / "out").version
    assert not (tmp_path / "state").exists()


@pytest.fixture(scope="module")
def interrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a job of two ranks that was ended after it had saved its fit."""
    words = saved_fit(folder, tmp_path_factory.mktemp("interrupted"), *ONE_VARIANT)
    with support.running(support.torchrun(2, "training", "fit", *words)) as process:
        for line in process.stdout or ():
            if line.startswith("epoch 8/"):
                break
    return words


def test_more_ranks_than_the_saved_fit_has_chains_are_refused_in_words(interrupted: list[str]) -> None:
    code, output = support.run(3, "training", "fit", *interrupted)
    assert code != 0
    assert "error: the saved fit has 2 chains: 2 ranks at most can go on with it" in output


def test_a_saved_fit_whose_ranks_shared_something_else_is_refused_in_words(
    interrupted: list[str], tmp_path: Path
) -> None:
    """Such as that of an earlier release, which says nothing of it: the ranks of that one shared the users."""
    state = Path(interrupted[interrupted.index("--resume") + 1])
    copy = Path(shutil.copytree(state, tmp_path / "state"))
    for file in copy.glob(f"*/{FACTS}"):
        facts = json.loads(file.read_text("utf-8"))
        del facts["shared"]
        file.write_text(json.dumps(facts), "utf-8")
    words = [str(copy) if word == str(state) else word for word in interrupted]
    code, output = support.run(2, "training", "fit", *words)
    assert code != 0
    assert f"error: in {copy} the ranks shared the users; now they share the chains" in output
