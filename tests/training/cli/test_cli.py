"""The command line as a program: exit codes, what goes to which stream, and that nothing is left half-done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from models.registry import last_fit
from models.registry.directory import current_version, load, publish
from tests.support.checkpoints import small_draft
from tests.support.forks import ROOT, Finished, Nursery, is_one_error_line
from training.cli.program import cli
from training.constants import preset_names
from training.data import movielens

ROWS = [
    f"{user},{item},{1 + (user * item) % 5},{1_600_000_000 + user + item}" for user in range(9) for item in range(8)
]


@pytest.fixture
def ratings(tmp_path: Path) -> str:
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["user,item,rating,timestamp", *ROWS]) + "\n")
    return str(path)


def test_the_last_line_of_stdout_is_json_and_progress_goes_to_stderr(
    nursery: Nursery, ratings: str, tmp_path: Path
) -> None:
    options = ("--data", ratings, "--preset", "bias", "--set", "epochs=2", "--device", "cpu", "--out", tmp_path / "out")
    done = nursery.run("training", "fit", *options, "--json")
    assert done.code == 0
    figures = json.loads(done.stdout)
    assert load(tmp_path / "out").version == figures["version"]
    assert [line.split("  ")[0] for line in done.stderr.splitlines()[1:]] == [
        "reading the ratings",
        f"{ratings}: fields separated by commas, a header, utf-8",
        "fitting bias",
        "epoch 1/2",
        "epoch 2/2",
        f"publishing to {tmp_path / 'out'}",
    ]


def test_without_json_figures_are_a_table_and_nulls_are_left_out(nursery: Nursery, ratings: str) -> None:
    done = nursery.run("training", "evaluate", "--data", ratings, "--preset", "bias", "--device", "cpu", "--quiet")
    assert (done.code, done.stderr) == (0, "")
    assert re.findall(r"^(\w+)", done.stdout, re.MULTILINE) == ["Data", "Fit", "Errors", "Ranking"]
    assert re.search(r"RMSE +\d\.\d{4} +\d+\.\d% (below|above) that of biases alone", done.stdout)
    assert "90 % intervals" not in done.stdout


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
    noted = last_fit.read(tmp_path / "out")
    assert noted is not None
    assert (noted.outcome, noted.version) == ("published", current_version(tmp_path / "out"))
    again = nursery.run("training", "fit", *options)
    noted = last_fit.read(tmp_path / "out")
    assert noted is not None
    assert (noted.outcome, noted.version) == ("refused", None)
    assert str(noted.reason) in again.stderr


def test_the_lists_of_presets_and_data_sets(nursery: Nursery) -> None:
    for command, names in (("presets", preset_names()), ("datasets", list(movielens.SETS))):
        done = nursery.run("training", command)
        assert (done.code, done.stderr) == (0, "")
        assert [name for name in re.findall(r"^([a-z]\S*)", done.stdout, re.MULTILINE)[1:] if name != "data"] == names
        answer = json.loads(nursery.run("training", command, "--json").stdout)
        assert [entry["name"] for entry in answer[command]] == names


def test_the_settings_of_a_preset_and_what_they_accept(nursery: Nursery) -> None:
    done = nursery.run("training", "presets", "textbook")
    assert (done.code, done.stderr) == (0, "")
    assert (
        done.stdout
        == """\
textbook: Matrix factorization as in Dive into Deep Learning: 30 factors, Adam, 20 epochs (trainer adam)

setting             value   means                                            accepts
─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
factors                30   numbers that describe each user and each item    a whole number, at least 1, at most 4096
epochs                 20   passes over the ratings                          a whole number, at least 1
batch_size            512   ratings in each step                             a whole number, at least 1
learning_rate       0.002   size of a step                                   a number, above 0
weight_decay        1e-05   how strongly factors are held near zero          a number, at least 0
initial_deviation    0.01   standard deviation of the factors at the start   a number, at least 0
"""
    )


def test_every_setting_of_every_preset_says_what_it_means(nursery: Nursery) -> None:
    for name in preset_names():
        settings = json.loads(nursery.run("training", "presets", name, "--json").stdout)["settings"]
        assert [setting["name"] for setting in settings if not setting["meaning"]] == []


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


# What is wrong → (options, what the line must say): for a word that is nearly right, which one was meant.
MENDED = {
    "misspelt preset": (["--preset", "bais"], "did you mean 'bias'?"),
    "misspelt data set": (["--data", "ml100k"], "did you mean 'ml-100k'?"),
    "misspelt setting": (["--set", "epoch=3"], "did you mean 'epochs'?"),
    "misspelt option": (["--tolerence", "1"], "'--tolerance'"),
    "misspelt split": (["--split", "lastout"], "did you mean 'last-out'?"),
    "misspelt name of a column": (["--columns", "users=x"], "did you mean 'user'?"),
    "another file": (["--data", "{folder}/rating.csv"], "no such file or folder: did you mean 'ratings.csv'?"),
    "another column": (["--data", "{folder}/stars.csv"], "use --columns rating=ratings"),
    "split without its part": (["--split", "random"], "as in random:0.1"),
    "a part of everything": (["--split", "time:1"], "as in time:0.1"),
    "setting of another type": (["--set", "epochs=many"], "must be a whole number, at least 1, not many"),
    "database without table": (["--data", "postgresql://u:secret@127.0.0.1:1/x"], "needs --table NAME"),
}


@pytest.mark.parametrize(("options", "remedy"), MENDED.values(), ids=MENDED)
def test_an_error_says_what_to_do(
    nursery: Nursery, ratings: str, tmp_path: Path, options: list[str], remedy: str
) -> None:
    (tmp_path / "stars.csv").write_text("user,item,ratings\n1,2,3\n2,3,4\n")
    usual = ("--data", ratings, "--preset", "bias", "--device", "cpu", "--out", tmp_path / "out")
    done = nursery.run("training", "fit", *usual, *(option.format(folder=tmp_path) for option in options))
    assert (done.code, is_one_error_line(done), done.stdout) == (2, True, ""), done.stderr
    assert remedy in done.stderr
    assert "secret" not in done.stderr


def test_where_nothing_is_published_the_command_that_does_is_named(nursery: Nursery, tmp_path: Path) -> None:
    for command in ("list", "rollback", "report"):
        done = nursery.run("training", command, "--checkpoints", tmp_path)
        assert (done.code, is_one_error_line(done)) == (2, True)
        assert f"ratecast fit --data ml-100k --split random:0.1 --preset bayes --out {tmp_path}" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "http://[", ""])
def test_a_service_that_does_not_answer_is_told_of_at_once(nursery: Nursery, ratings: str, url: str) -> None:
    done = nursery.run("training", "import", "--data", ratings, "--to", url)
    assert (done.code, is_one_error_line(done), done.stdout) == (2, True, "")
    assert f"no service answers at {url}" in done.stderr
    assert "`ratecast serve` starts one" in done.stderr


def test_ratings_of_a_single_user_may_be_imported(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_bytes(b"user,item,rating\n1,2,3\n1,3,3\n")
    done = nursery.run("training", "import", "--data", tmp_path / "one.csv", "--to", "http://127.0.0.1:1")
    assert "no service answers at" in done.stderr


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


def answered(done: Finished) -> dict[str, Any]:
    """What a command answered with --json: one object, in the last line."""
    assert done.code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def test_every_command_answers_in_json(nursery: Nursery, ratings: str, tmp_path: Path) -> None:
    """All of them but `import`, which needs a service: `tests/e2e/test_the_loop.py` has it."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    first, second = (publish(out, small_draft(write_report=write_page)).version for _ in range(2))
    fit = ("--data", ratings, "--preset", "bias", "--set", "epochs=1", "--device", "cpu")
    many = ("--data", "synthetic:60x40x1200", "--split", "random:0.25", "--device", "cpu")
    commands: dict[str, tuple[object, ...]] = {
        "datasets": (),
        "presets": (),
        "completion": ("bash",),
        "list": ("--out", out),
        "report": ("--checkpoints", out, "--version", first),
        "activate": (first, "--out", out),
        "split": ("--end", "--out", out),
        "publish": (out / second, "--out", elsewhere),
        "export": ("--checkpoints", out, "--device", "cpu", "--out", tmp_path / "top.parquet"),
        "evaluate": fit,
        "fit": (*fit, "--out", out, "--force"),
        "compare": ("bias", "als", *many),
        "tune": (*many, "--preset", "bias", "--fits", 1, "--out", tmp_path / "best.toml"),
        "rollback": ("--out", out),
        "prune": ("--keep", 1, "--out", out),
    }
    assert {*commands, "import"} == set(cli.commands)
    answers = {name: answered(nursery.run("training", name, *words, "--json")) for name, words in commands.items()}
    assert answers["activate"] == {"current": first}
    assert answers["publish"] == {"version": second, "checkpoint": str(elsewhere / second), "current": True}
    assert answers["export"] == {"rows": 9, "file": str(tmp_path / "top.parquet")}
    assert answers["rollback"] == {"current": first, "before": answers["fit"]["version"]}
    assert answers["split"] == {"version": None, "share": None}
    assert answers["prune"] == {"removed": [second]}
    assert answers["report"]["report"] == str(out / first / "report" / "index.html")
    assert (answers["report"]["version"], answers["report"]["rmse"]) == (first, 1.0)


@pytest.mark.parametrize("command", cli.commands.values(), ids=list(cli.commands))
def test_every_command_has_json_help_and_where_it_asks_for_more_an_example(command: click.Command) -> None:
    options = {name for param in command.params for name in param.opts}
    with click.Context(command, info_name=command.name) as context:
        text = command.get_help(context)
    assert "--json" in options
    assert all(param.help for param in command.params if isinstance(param, click.Option))
    simple = {"datasets", "list", "rollback"}
    assert ("Examples:" in text) == (command.name not in simple)


def write_page(folder: Path) -> None:
    (folder / "index.html").write_text("<!doctype html><title>Report</title>")


def test_the_report_of_a_version_is_found_and_its_figures_are_shown(nursery: Nursery, tmp_path: Path) -> None:
    version = publish(tmp_path, small_draft(write_report=write_page)).version
    done = nursery.run("training", "report", "--checkpoints", tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert re.search(rf"report +{tmp_path / version}/report/index\.html$", done.stdout, re.MULTILINE)
    assert re.search(r"RMSE +1\.0000", done.stdout)


def test_the_report_is_opened_in_the_browser(tmp_path: Path) -> None:
    """The browser is a program that writes down what it was asked to show."""
    version = publish(tmp_path, small_draft(write_report=write_page)).version
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/shown\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "training", "report", "--checkpoints", str(tmp_path), "--open"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"BROWSER": f"{browser} %s"}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "shown").read_text().strip() == (tmp_path / version / "report" / "index.html").as_uri()


def test_a_version_without_a_report_and_one_that_is_not_there_are_one_line(nursery: Nursery, tmp_path: Path) -> None:
    version = publish(tmp_path, small_draft()).version
    done = nursery.run("training", "report", "--checkpoints", tmp_path)
    assert (done.code, is_one_error_line(done)) == (2, True)
    assert "fit and publish a model again" in done.stderr
    done = nursery.run("training", "report", "--checkpoints", tmp_path, "--version", version[:-1])
    assert (done.code, is_one_error_line(done)) == (2, True)
    assert f"did you mean '{version}'?" in done.stderr


def test_alone_it_explains_itself(nursery: Nursery) -> None:
    done = nursery.run("training")
    assert (done.code, done.stderr) == (0, "")
    commands = re.findall(r"^    ratecast (\S+)", done.stdout, re.MULTILINE)
    assert commands == ["evaluate", "fit", "serve"]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_it_says_its_release(nursery: Nursery) -> None:
    done = nursery.run("training", "--version")
    assert (done.code, done.stderr) == (0, "")
    assert re.fullmatch(r"ratecast \d+\.\d+\.\d+\n", done.stdout)


def test_help_and_completion_import_nothing_slow() -> None:
    code = "import sys, training.cli.program; print(sorted({'torch', 'numba', 'pyarrow', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
