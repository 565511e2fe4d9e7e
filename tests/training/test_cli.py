"""The command line as a program: exit codes, what goes to which stream, and that nothing is left half-done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.checkpoint import load
from tests.support.forks import ROOT, Finished, Nursery
from training import config
from training.data import movielens

ROWS = [f"{user},{item},{1 + (user * item) % 5},{user + item}" for user in range(9) for item in range(8)]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("children"), ["training.job"]) as nursery:
        yield nursery


@pytest.fixture
def ratings(tmp_path: Path) -> str:
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user,item,rating,timestamp", *ROWS]) + "\n")
    return str(path)


def is_one_error_line(done: Finished) -> bool:
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("fitting on", "epoch "))]
    return len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) > len("error: ")


def test_the_last_line_of_stdout_is_json_and_progress_goes_to_stderr(
    nursery: Nursery, ratings: str, tmp_path: Path
) -> None:
    options = ("--data", ratings, "--preset", "bias", "--set", "epochs=2", "--device", "cpu", "--out", tmp_path / "out")
    done = nursery.run("training", "fit", *options, "--json")
    assert done.code == 0
    figures = json.loads(done.stdout)
    assert load(tmp_path / "out").version == figures["version"]
    assert [line.split("  ")[0] for line in done.stderr.splitlines()[1:]] == ["epoch 1/2", "epoch 2/2"]


def test_without_json_figures_are_a_table_and_nulls_are_left_out(nursery: Nursery, ratings: str) -> None:
    done = nursery.run("training", "evaluate", "--data", ratings, "--preset", "bias", "--device", "cpu")
    keys = [line.split()[0] for line in done.stdout.splitlines()]
    assert done.code == 0
    assert {"rmse", "ndcg10", "train_loss"} <= set(keys)
    assert not {"version", "checkpoint", "coverage90"} & set(keys)


def test_a_model_that_the_gate_refuses_ends_with_3(nursery: Nursery, ratings: str, tmp_path: Path) -> None:
    """The bias model does not beat itself."""
    options = (
        "--data",
        ratings,
        "--split",
        "last-out",
        "--preset",
        "bias",
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
    )
    done = nursery.run("training", "fit", *options)
    assert (done.code, is_one_error_line(done)) == (3, True)
    assert not (tmp_path / "out").exists()
    assert nursery.run("training", "fit", *options, "--force").code == 0


def test_the_list_of_presets(nursery: Nursery) -> None:
    done = nursery.run("training", "presets")
    assert (done.code, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == config.preset_names()


def test_the_list_of_data_sets(nursery: Nursery) -> None:
    done = nursery.run("training", "datasets")
    assert (done.code, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(movielens.SETS)


def bad_data(folder: Path) -> dict[str, Path]:
    """Ratings that cannot be read, by what is wrong with them."""
    contents = {
        "empty": b"",
        "a header alone": b"user,item,rating\n",
        "no column rating": b"user,item,stars\n1,2,3\n",
        "text for a rating": b"user,item,rating\n1,2,3\n1,3,good\n",
        "not UTF-8": b"user,item,rating\n\xff\xfe,2,3\n4,5,1\n",
        "a single user": b"user,item,rating\n1,2,3\n1,3,3\n",
    }
    files = {what: folder / f"{index}.csv" for index, what in enumerate(contents)}
    for what, file in files.items():
        file.write_bytes(contents[what])
    (folder / "folder.csv").mkdir()
    return files | {
        "missing": folder / "missing.csv",
        "a directory": folder / "folder.csv",
        "unknown": folder / "x.doc",
    }


def test_every_bad_source_is_one_line_and_exit_2(nursery: Nursery, tmp_path: Path) -> None:
    found = {
        what: nursery.run("training", "fit", "--data", file, "--preset", "bias", "--out", tmp_path / "out")
        for what, file in bad_data(tmp_path).items()
    }
    assert {what: (done.code, is_one_error_line(done)) for what, done in found.items()} == dict.fromkeys(
        found, (2, True)
    )
    assert "line 3" in found["text for a rating"].stderr
    assert not (tmp_path / "out").exists()


BAD_OPTIONS = {
    "unknown preset": ["--preset", "nothing"],
    "unknown setting": ["--set", "nothing=1"],
    "bad setting": ["--set", "epochs=0"],
    "setting without value": ["--set", "epochs"],
    "unknown split": ["--split", "half"],
    "bad fraction": ["--split", "random:1.5"],
    "no such device": ["--device", "cuda:99"],
    "unknown device": ["--device", "tpu"],
    "no threads": ["--threads", "0"],
    "negative seed": ["--seed", "-1"],
    "bad columns": ["--columns", "user"],
    "unknown option": ["--nothing"],
    "missing test file": ["--test", "nothing.csv"],
    "table without database": ["--table", "ratings"],
    "unreachable database": ["--data", "postgresql://127.0.0.1:1/x", "--table", "ratings"],
    "bad synthetic set": ["--data", "synthetic:2x2x9"],
    "out under a file": ["--out", __file__ + "/out"],
    "out is a file": ["--out", __file__],
}


@pytest.mark.parametrize("options", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_one_line_and_exit_2(
    nursery: Nursery, ratings: str, tmp_path: Path, options: list[str]
) -> None:
    usual = ("--data", ratings, "--preset", "bias", "--device", "cpu", "--out", tmp_path / "out")
    done = nursery.run("training", "fit", *usual, *options)
    assert (done.code, is_one_error_line(done)) == (2, True), done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_fit_that_diverges_is_one_line_and_exit_2(nursery: Nursery, ratings: str, tmp_path: Path) -> None:
    options = ("--preset", "textbook", "--set", "learning_rate=1e30", "--device", "cpu", "--out", tmp_path / "out")
    done = nursery.run("training", "fit", "--data", ratings, *options)
    assert (done.code, is_one_error_line(done)) == (2, True), done.stderr


@pytest.mark.parametrize("arguments", [["fit"], ["fit", "--data", "ml-100k"], ["nothing"]], ids=" ".join)
def test_a_command_that_is_incomplete_is_one_line_and_exit_2(nursery: Nursery, arguments: list[str]) -> None:
    done = nursery.run("training", *arguments)
    assert (done.code, is_one_error_line(done)) == (2, True), done.stderr


def test_an_interrupt_during_a_fit_ends_with_130_and_leaves_nothing(ratings: str, tmp_path: Path) -> None:
    """The fit would take days: it is interrupted once its first epoch is reported."""
    options = ["--data", ratings, "--preset", "textbook", "--set", "epochs=100000000", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "training", "fit", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("epoch 1/"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1] == "interrupted: nothing was published"
    assert "Traceback" not in stderr
    assert not (tmp_path / "out").exists()
