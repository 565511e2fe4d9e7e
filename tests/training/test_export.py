"""The exported lists against a sort of every prediction, and what is left when they cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from models.checkpoint.files import USER_SCHEMA
from models.checkpoint.reader import Checkpoint
from models.checkpoint.writer import Draft
from models.orderings import orderings
from models.registry.directory import load, publish
from models.sharding import Sharded
from models.training_ratings import TrainingRatings
from tests.support.checkpoints import ITEMS, USERS, small_draft, small_model
from tests.support.forks import ROOT, Finished, Nursery
from training import export
from training.errors import ExportError

VARIANCES = {
    "noise_variance": torch.tensor(0.5),
    "user_variance": torch.ones(USERS + 1),
    "item_variance": torch.tensor([4.0, 0.0, 1.0, 0.0, 0.0]),
}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoints"
    publish(directory, small_draft(model=small_model(**VARIANCES)))
    return directory


def run(nursery: Nursery, checkpoints: Path, out: Path, *options: object) -> Finished:
    return nursery.run("training", "export", "--checkpoints", checkpoints, "--device", "cpu", *options, "--out", out)


def expected_rows(checkpoint: Checkpoint, name: str, n: int, *, seen: bool, allowed: set[int]) -> list[dict[str, Any]]:
    ordering, items_I = orderings(checkpoint.model, checkpoint.relevance)[name], torch.arange(ITEMS)
    rows = []
    for user in range(USERS):
        users_I = torch.full_like(items_I, user)
        scores = ordering.exact(users_I, items_I).tolist()
        ratings = checkpoint.model(users_I, items_I).clamp(1.0, 5.0).tolist()
        candidates = allowed - (set() if seen else set(checkpoint.seen.of(user).tolist()))
        best = sorted(candidates, key=lambda item: (-scores[item], item))[:n]
        rows += [
            {
                "user": checkpoint.users[user],
                "rank": rank,
                "item": checkpoint.items[item],
                "rating": ratings[item],
            }
            for rank, item in enumerate(best, 1)
        ]
    return rows


@pytest.mark.parametrize(
    ("options", "name", "seen", "allowed"),
    [
        ((), "rating", False, {0, 1, 2, 3}),
        (("--rank-by", "lower_bound", "--include-seen"), "lower_bound", True, {0, 1, 2, 3}),
        (("--genre", "Drama", "--n", 3), "rating", False, {0}),
        (("--device", "cpu,cpu,cpu"), "rating", False, {0, 1, 2, 3}),
    ],
)
def test_the_file_holds_what_sorting_every_prediction_gives(
    nursery: Nursery,
    checkpoints: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    name: str,
    seen: bool,
    allowed: set[int],
) -> None:
    done = run(nursery, checkpoints, tmp_path / "top.parquet", "--n", 2, *options)
    n = 3 if "--genre" in options else 2
    expected = expected_rows(load(checkpoints), name, n, seen=seen, allowed=allowed)
    assert (done.code, done.stdout) == (0, f"wrote {len(expected)} rows to {tmp_path / 'top.parquet'}\n")
    assert done.stderr == f"{USERS} of {USERS} users\n"
    assert parquet.read_table(tmp_path / "top.parquet").to_pylist() == expected


def test_a_version_can_be_named(nursery: Nursery, checkpoints: Path, tmp_path: Path) -> None:
    first = load(checkpoints).version
    publish(
        checkpoints,
        small_draft(seen=TrainingRatings.from_ratings(*np.empty((2, 0), np.int32), np.empty(0, np.float32), USERS)),
    )
    rows = [
        (
            run(nursery, checkpoints, tmp_path / "top.parquet", *options).code,
            parquet.read_table(tmp_path / "top.parquet"),
        )
        for options in ((), ("--version", first))
    ]
    assert [(code, table.num_rows) for code, table in rows] == [(0, 12), (0, 9)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--version", "20200101T000000Z-none-000000"), "no version '20200101T000000Z-none-000000' in"),
        (("--rank-by", "relevance"), "cannot order by relevance, only by lower_bound, rating"),
        (("--genre", "Opera"), "no item has the genre 'Opera'; the genres are Comedy, Drama, War"),
        (("--device", "tpu"), "no device 'tpu'"),
        (("--device", "cpu,"), "no device ''"),
        (("--device", "cpu,auto"), "no devices 'cpu,auto': several devices must be all cpu, or all cuda"),
        (("--n", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    nursery: Nursery, checkpoints: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = run(nursery, checkpoints, tmp_path / "top.parquet", *options)
    assert (done.code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not (tmp_path / "top.parquet").exists()


@pytest.mark.parametrize("out", ["missing/top.parquet", "folder"])
def test_a_file_that_cannot_be_made_is_one_line(nursery: Nursery, checkpoints: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "folder").mkdir()
    done = run(nursery, checkpoints, tmp_path / out)
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert f"cannot write {tmp_path / out}: " in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "folder"}


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """On a disk of its own with two pages, of which an older file takes one."""
    disk, checkpoints = tmp_path / "disk", tmp_path / "checkpoints"
    disk.mkdir()
    publish(checkpoints, many_users())
    out = disk / "top.parquet"
    export_top = f"{sys.executable} -m training export --checkpoints {checkpoints} --device cpu --out {out}"
    command = (
        f"mount -t tmpfs -o size=8k tmpfs {disk} && echo old > {out}; {export_top}; echo $?; ls -A {disk}; cat {out}"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["2", "top.parquet", "old"]
    assert done.stderr.splitlines()[-1] == f"error: cannot write {out}: No space left on device; nothing was written"


def many_users() -> Draft:
    """Whose lists take more than a page."""
    users = 3_000
    rng = np.random.default_rng(0)
    tables = {
        "user_factors": torch.tensor(rng.standard_normal((users + 1, 2)), dtype=torch.float32),
        "user_bias": torch.zeros(users + 1),
    }
    nobody = TrainingRatings.from_ratings(*np.empty((2, 0), np.int32), np.empty(0, np.float32), users)
    ids = pa.table({"id": [f"u{user}" for user in range(users)]}, USER_SCHEMA)
    return small_draft(model=small_model(**tables), users=ids, seen=nobody)


def test_row_groups_are_written_as_they_fill(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "USERS_PER_BATCH", 1)
    monkeypatch.setattr(export, "ROWS_PER_GROUP", 4)
    checkpoint, done = load(checkpoints), []
    rating = Sharded.whole(orderings(checkpoint.model, checkpoint.relevance)["rating"])
    rows = export.export_top(
        checkpoint,
        tmp_path / "top.parquet",
        rating,
        20,
        rating=rating,
        include_seen=True,
        allowed_I=None,
        report=done.append,
    )
    file = parquet.ParquetFile(tmp_path / "top.parquet")
    assert (rows, done) == (12, [1, 2, 3])
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [4, 4, 4]
    assert file.read().num_rows == 12


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interruption_leaves_nothing(checkpoints: Path, tmp_path: Path, error: BaseException) -> None:
    checkpoint = load(checkpoints)
    rating = Sharded.whole(orderings(checkpoint.model, checkpoint.relevance)["rating"])

    def interrupt(_: int) -> None:
        raise error

    with pytest.raises((ExportError, KeyboardInterrupt)):
        export.export_top(
            checkpoint,
            tmp_path / "top.parquet",
            rating,
            20,
            rating=rating,
            include_seen=True,
            allowed_I=None,
            report=interrupt,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
