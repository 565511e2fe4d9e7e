"""`evaluate --folds` and `--replay`, `compare` and `tune` as programs: what they show and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.forks import Nursery, is_one_error_line


@pytest.fixture
def ratings(tmp_path: Path) -> str:
    rows = [
        f"{user},{item},{1 + (user * item) % 5},{1_600_000_000 + user + item}" for user in range(9) for item in range(8)
    ]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user,item,rating,timestamp", *rows]) + "\n")
    return str(path)


def weak_preset(folder: Path) -> Path:
    """One that hardly learns anything."""
    path = folder / "weak.toml"
    path.write_text('trainer = "bias"\n[settings]\nuser_regularisation = 1e9\nitem_regularisation = 1e9\n')
    return path


EVALUATED = {
    "one fold": (["--folds", "1"], "--folds"),
    "folds and a split": (["--folds", "3", "--split", "time:0.1"], "--folds cannot be used with --split"),
    "folds and a replay": (["--folds", "3", "--replay"], "--folds cannot be used with --replay"),
    "more folds than ratings": (["--folds", "99"], "there are only 72 ratings"),
    "a replay of any ratings": (["--replay"], "use --split time:0.1"),
}


@pytest.mark.parametrize(("options", "remedy"), EVALUATED.values(), ids=EVALUATED)
def test_an_evaluation_that_cannot_be_is_one_line_and_exit_2(
    nursery: Nursery, ratings: str, options: list[str], remedy: str
) -> None:
    done = nursery.run("training", "evaluate", "--data", ratings, "--preset", "bias", "--device", "cpu", *options)
    assert (done.code, is_one_error_line(done), done.stdout) == (2, True, ""), done.stderr
    assert remedy in done.stderr


COMPARED = {
    "one model": (["bias"], "compare needs two models or more"),
    "the same model twice": (["bias", "bias"], "each of them once"),
    "a misspelt preset": (["bias", "asl"], "add --checkpoints DIR"),
    "too few ratings": (["bias", "als"], "9 ratings are held out: at least 100 are needed"),
}


@pytest.mark.parametrize(("models", "remedy"), COMPARED.values(), ids=COMPARED)
def test_a_comparison_that_cannot_be_is_one_line_and_exit_2(
    nursery: Nursery, ratings: str, models: list[str], remedy: str
) -> None:
    done = nursery.run("training", "compare", *models, "--data", ratings, "--device", "cpu")
    assert (done.code, is_one_error_line(done), done.stdout) == (2, True, ""), done.stderr
    assert remedy in done.stderr


def test_a_comparison_is_a_table_with_verdicts(nursery: Nursery, tmp_path: Path) -> None:
    weak = weak_preset(tmp_path)
    options = ("--data", "synthetic:60x40x1200", "--split", "random:0.25", "--device", "cpu", "--quiet")
    done = nursery.run("training", "compare", "bias", weak, *options)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("300 held-out ratings of 59 users (random:0.25)\n")
    assert re.search(r"\nbias +\d\.\d{4}\n\S*weak\.toml +\d\.\d{4} +\+\d\.\d{4} .* worse\n", done.stdout), done.stdout


TUNED = {
    "no time for one fit": (
        ["--time", "1s", "--preset", "textbook", "--set", "epochs=100000"],
        "too short for one fit",
    ),
    "a bad duration": (["--time", "soon"], "not a duration like 30m, 6h or 1d"),
    "no fits": (["--fits", "0"], "--fits"),
    "nothing to search": (["--search", "epochs"], "--search 'epochs' is not KEY=VALUE"),
    "a misspelt setting": (["--search", "epoch=[1]"], "did you mean 'epochs'?"),
    "another name": (["--out", "x.txt"], "ends in .toml"),
    "too few ratings": (["--inner-split", "last-out"], "9 ratings are held out to choose settings by"),
}


@pytest.mark.parametrize(("options", "remedy"), TUNED.values(), ids=TUNED)
def test_a_search_that_cannot_be_is_one_line_and_exit_2(
    nursery: Nursery, tmp_path: Path, options: list[str], remedy: str
) -> None:
    path = tmp_path / "ratings.csv"
    rows = [f"{user},{item},{1 + (user * item) % 5},{user + item}" for user in range(9) for item in range(130)]
    path.write_text("\n".join(["user,item,rating,timestamp", *rows]) + "\n")
    usual = ("--data", path, "--preset", "bias", "--device", "cpu", "--out", tmp_path / "best.toml", "--quiet")
    done = nursery.run("training", "tune", *usual, *options)
    lines = done.stderr.splitlines()
    assert (done.code, done.stdout, lines[-1].startswith("error: ")) == (2, "", True), done.stderr
    assert remedy in lines[-1]
    assert not (tmp_path / "best.toml").exists()


def test_a_search_shows_what_was_found_and_where_it_is(nursery: Nursery, tmp_path: Path) -> None:
    out = tmp_path / "best.toml"
    options = ("--data", "synthetic:80x50x1500", "--preset", "bias", "--device", "cpu", "--fits", "2", "--out", out)
    done = nursery.run("training", "tune", *options, "--split", "random:0.1")
    assert done.code == 0
    assert re.search(r"^ +bias +best of 2 fits\n", done.stdout), done.stdout
    assert re.search(r"\nRMSE, held out by random:0\.1 +\d\.\d{4} +\d\.\d{4}\n", done.stdout), done.stdout
    assert done.stdout.endswith(f"Wrote {out}: use it with --preset {out}\n")
    assert re.findall(r"^fit (\d) of 2: user_regularisation=", done.stderr, re.MULTILINE) == ["1", "2"]
    again = nursery.run("training", "evaluate", *options[:2], "--split", "random:0.1", "--preset", out, "--quiet")
    assert again.code == 0, again.stderr


def test_spreads_and_replays_are_shown(nursery: Nursery, ratings: str) -> None:
    usual = ("--data", ratings, "--preset", "bias", "--device", "cpu", "--quiet")
    folds = nursery.run("training", "evaluate", *usual, "--folds", "3")
    assert re.search(r"RMSE +\d\.\d{4} ± \d\.\d{4}   ", folds.stdout), folds.stdout + folds.stderr
    replay = nursery.run("training", "evaluate", *usual, "--split", "time:0.5", "--replay")
    assert re.search(r"\nany +36 +\d\.\d{4} +\d\.\d{4}\n0 ", replay.stdout), replay.stdout + replay.stderr
