"""Several ranks, which torchrun starts as real processes, have and fit what one process does."""

from __future__ import annotations

import json
import re
from itertools import chain, pairwise
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
from tests.support import two_hosts
from training import job
from training.config import JobConfig
from training.data.train_test import read
from training.fit import trainers
from training.fit.loop import fit
from training.runtime import Runtime

pytestmark = pytest.mark.slow  # each starts several processes; `test_one_rank.py` has what needs one alone
SPLITS = ("none", "random:0.1", "time:0.2", "last-out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings, some of one pair, in one file, and the same in a directory of five, of which one is empty."""
    folder, rng, rows = tmp_path_factory.mktemp("ranks"), np.random.default_rng(0), 6000
    users_N, items_N = rng.integers(300, size=rows), rng.pareto(1.0, rows) * 10 % 150
    taste_N = 3 + np.sin(users_N) * np.cos(items_N.astype(int)) + np.cos(items_N.astype(int))
    columns = {"user": [f"u{user}" for user in users_N], "item": items_N.astype(int)}
    columns |= {"rating": np.clip(np.round(2 * taste_N) / 2, 1, 5), "timestamp": rng.integers(0, 2000, rows)}
    table = pa.table(columns)
    (folder / "parts").mkdir()
    for number, (begin, end) in enumerate(pairwise((0, 900, 1000, 2500, 2500, rows))):
        part = folder / "parts" / f"part-{number}.parquet"
        pq.write_table(table.slice(begin, end - begin), part, row_group_size=400)
    pa_csv.write_csv(table, folder / "whole.csv")
    return folder


def rows_of(part: tuple[Any, ...], start: int, users: int, total: int) -> np.ndarray:
    """Rows (user, item, rating, time) of a rank's part with the numbers that users have everywhere."""
    users_N = np.where(part[0] == users, total, part[0] + start)
    return np.stack([users_N, *part[1:4]], axis=1)


@pytest.fixture(scope="module")
def read_by_three(folder: Path) -> list[Any]:
    return support.found("read_in_parts", folder, 3)


@pytest.mark.parametrize("split", SPLITS)
def test_three_ranks_read_from_parts_what_one_process_reads_from_a_file(
    split: str, folder: Path, read_by_three: list[Any]
) -> None:
    expected = read(support.job_config(folder, "whole.csv", split))
    bounds, duplicates, _, _, item_ids = read_by_three[0][split]
    shares = [facts[split] for facts in read_by_three]
    assert duplicates == expected.dataset.duplicates > 0
    assert item_ids == expected.train.item_ids.to_pylist()
    assert [*chain(*(share[3][0][4] for share in shares))] == expected.train.user_ids.to_pylist()
    for number, whole in enumerate((expected.train, expected.test)):
        parts = [
            rows_of(share[3][number], start, stop - start, bounds[-1])
            for share, (start, stop) in zip(shares, pairwise(bounds), strict=True)
        ]
        wanted = np.stack([whole.users_N, whole.items_N, whole.ratings_N, whole.timestamps_N], axis=1)
        assert sorted(map(tuple, np.concatenate(parts).tolist())) == sorted(map(tuple, wanted.tolist()))


def test_the_fingerprint_of_parts_is_one_for_all_ranks(read_by_three: list[Any]) -> None:
    assert len({facts[split][2] for facts in read_by_three for split in SPLITS}) == 1


def test_no_rank_has_more_than_its_share_of_the_ratings(read_by_three: list[Any]) -> None:
    counts = [len(facts["none"][3][0][0]) for facts in read_by_three]
    assert max(counts) < 0.6 * sum(counts)


def plain_model(folder: Path, name: str, **settings: Any) -> dict[str, torch.Tensor]:
    """The tables that one process fits."""
    trainer_class = trainers.find(name)
    data = Runtime().training_set(read(support.job_config(folder, "whole.csv", "none")), torch.device("cpu"))
    chosen = trainer_class.Settings(**support.SETTINGS, **settings)
    trainer = trainer_class(data, chosen, np.random.default_rng(0))
    fit(trainer, None, lambda _: None)
    return dict(trainer.model().tensors())


@pytest.fixture(scope="module")
def als_by_three(folder: Path) -> list[Any]:
    return support.found("fit_als", folder, 3)


@pytest.mark.parametrize("way", [0, 1], ids=["items whole", "items in blocks"])
def test_als_on_three_ranks_is_als_to_five_digits(way: int, folder: Path, als_by_three: list[Any]) -> None:
    expected, (_, model, _, _) = plain_model(folder, "als", sweeps=4), als_by_three[0][way]
    for name, table in expected.items():
        torch.testing.assert_close(model[name], table, rtol=1e-5, atol=1e-5)


def test_a_sweep_of_als_sends_what_the_formulas_say(folder: Path, als_by_three: list[Any]) -> None:
    """docs/scaling.md has them; what cold items cost is counted from the ratings."""
    train, size, K = read(support.job_config(folder, "whole.csv", "none")).train, 3, 8
    S, block = K * (K + 1) // 2 + K + 1, -(-train.items // size // 64) * 64
    counts_I = np.bincount(train.items_N, minlength=train.items)
    hot_I, owner_I = counts_I * K > size * S, np.arange(train.items) // block
    most_hot = max(hot_I[owner_I == rank].sum() for rank in range(size))
    assert 0 < hot_I.sum() < len(hot_I)
    for rank, results in enumerate(als_by_three):
        _, _, sent, bounds = results[0]
        cold_N = (train.users_N >= bounds[rank]) & (train.users_N < bounds[rank + 1]) & ~hot_I[train.items_N]
        pairs = {*zip(owner_I[train.items_N[cold_N]].tolist(), train.users_N[cold_N].tolist(), strict=True)}
        rows = sum(owner != rank for owner, _ in pairs)
        longest = min(block, train.items)
        assert sent["all-gather"] == (size - 1) * longest * K * 4
        assert sent["all-to-all"] == (size - 1) * most_hot * S * 4 + rows * K * 4
        assert sent["all-reduce"] < 200


@pytest.fixture(scope="module")
def bayes_by_three(folder: Path) -> Any:
    return support.found("fit_bayes", folder, 3)[0]


def test_what_another_fit_has_saved_and_what_is_torn_are_refused(folder: Path, bayes_by_three: Any) -> None:
    for another, torn in support.found("refused_state", folder, 2):
        assert another == f"{folder / 'bayes-state'} is the state of another fit, with other data, settings or seed"
        assert torn.startswith(f"{folder / 'torn' / 'sweep-000001'} is not a saved fit")


def test_bayes_goes_on_with_fewer_ranks_as_if_it_had_never_stopped(folder: Path, bayes_by_three: Any) -> None:
    begun, expected, _, _ = bayes_by_three
    resumed_at, model, _, _ = support.found("resume_bayes", folder, 2)[0]
    assert (begun, resumed_at) == (0, 2)
    products = [tables["user_factors"] @ tables["item_factors"].T for tables in (model, expected)]
    torch.testing.assert_close(*products, rtol=1e-3, atol=1e-3)
    for name in ("user_bias", "item_bias", "user_variance", "item_variance"):
        torch.testing.assert_close(model[name], expected[name], rtol=1e-3, atol=1e-3)


OPTIONS = ("--split", "random:0.1", "--preset", "als", "--set", "factors=7", "--set", "relevance.factors=8")
OPTIONS = (*OPTIONS, "--seed", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def published(folder: Path) -> Checkpoint:
    """What one process publishes."""
    overrides = ("factors=7", "relevance.factors=8", "sweeps=30")
    job_config = JobConfig(
        data=[str(folder / "whole.csv")], preset="als", cache=folder, split="random:0.1", seed=3, device="cpu",
        overrides=overrides, out=folder / "plain", threads=1, force=True,
    )  # fmt: skip
    assert job.run(job_config, lambda _: None).refusal is None
    return load(folder / "plain")


def assert_same(checkpoint: Checkpoint, expected: Checkpoint) -> None:
    """The same model to five digits, ids, seen ratings, catalogue and, to six, figures."""
    for name, table in expected.model.tensors().items():
        torch.testing.assert_close(checkpoint.model.tensors()[name], table, rtol=1e-5, atol=1e-5)
    heads = [head for head in (checkpoint.relevance, expected.relevance) if head is not None]
    for side, tolerance in (("user_factors", 1e-3), ("summed_factors", 1e-2)):  # times items: columns' signs are free
        found, wanted = (getattr(head, side) @ head.item_factors.T for head in heads)
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    assert checkpoint.users.ids == expected.users.ids
    assert checkpoint.catalogue == expected.catalogue
    assert torch.equal(checkpoint.seen.offsets, expected.seen.offsets)
    assert torch.equal(checkpoint.seen.items_N, expected.seen.items_N)
    assert torch.equal(checkpoint.seen.ratings_N, expected.seen.ratings_N)
    figures = {name: value for name, value in expected.manifest.metrics.items() if value is not None}
    assert {name: checkpoint.manifest.metrics[name] for name in figures} == pytest.approx(figures, rel=1e-4)


def test_a_job_whose_rank_is_killed_publishes_the_model_of_one_that_was_not(
    folder: Path, tmp_path: Path, published: Checkpoint
) -> None:
    saved = ("--resume", tmp_path / "state", "--save-every", "0", "--set", "sweeps=30", "--force")
    out = tmp_path / "out"
    arguments = ("training", "fit", "--data", folder / "parts", *OPTIONS, *saved, "--out", out, "--json")
    command = support.torchrun(2, *arguments, options=("--standalone", "--max-restarts", "2"))
    lines: list[str] = []
    with support.running(command) as process:
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("epoch 12/") and sum("epoch 12/" in line for line in lines) == 1:
                killed = [child for child in psutil.Process(process.pid).children() if "fit" in child.cmdline()][-1]
                killed.kill()
        assert process.wait() == 0, "".join(lines)
    assert sum(line.startswith("fitting on") for line in lines) == 2
    assert not any(line.startswith("epoch 1/") for line in lines[1 + sum("epoch 12/" not in line for line in lines) :])
    assert_same(load(out), published)
    assert not (tmp_path / "state").exists()
    figures = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    assert figures["version"] == load(out).version


def test_two_hosts_fit_what_one_does_and_send_what_they_count(
    folder: Path, tmp_path: Path, published: Checkpoint
) -> None:
    """Each host is a network namespace of its own."""
    options = ("--nnodes", "2", "--node-rank", "{host}", "--master-addr", two_hosts.FIRST, "--master-port", "29400")
    saved = ("--set", "sweeps=30", "--force", "--out", tmp_path / "out", "--json")
    command = support.torchrun(1, "training", "fit", "--data", folder / "parts", *OPTIONS, *saved, options=options)
    with support.running([*two_hosts.prefix(), *command]) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    assert_same(load(tmp_path / "out"), published)
    (counted,) = re.findall(r"this rank has sent (\d+) bytes", output)
    (interface,) = re.findall(r"^sent (\d+) \d+$", output, re.MULTILINE)
    assert int(counted) > 100_000
    assert int(counted) < int(interface) < 1.5 * int(counted) + 200_000  # headers, and what torchrun itself says


def test_what_cannot_be_spread_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    arguments = ("--data", folder / "parts", "--preset", "textbook", "--out", tmp_path / "out")
    code, output = support.run(1, "training", "fit", *arguments)
    assert code != 0
    assert "error: the preset textbook cannot be fitted under torchrun" in output.splitlines()


def test_a_bad_row_ends_the_job_with_its_file_and_number(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for number, rating in enumerate((3.0, None)):
        table = pa.table({"user": ["a", "b"], "item": ["x", "y"], "rating": pa.array([4.0, rating], pa.float64())})
        pq.write_table(table, tmp_path / "parts" / f"{number}.parquet")
    arguments = ("--data", tmp_path / "parts", "--preset", "als", "--out", tmp_path / "out")
    code, output = support.run(2, "training", "fit", *arguments)
    assert code != 0
    assert f"error: {tmp_path / 'parts' / '1.parquet'}: row 2: rating is missing" in output
    assert not (tmp_path / "out").exists()
