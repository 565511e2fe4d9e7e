"""The command line as a person has it: on a terminal, and in a shell that completes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import pytest

from models.registry.directory import publish
from tests.support.checkpoints import small_draft
from tests.support.forks import ROOT
from training.constants import DATA_SETS, preset_names

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]


def on_a_terminal(columns: int, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and all that `python -m training` writes to a terminal so wide."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        cwd=ROOT,
        env=kept | {"TERM": "xterm-256color"} | environment,
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    written = b""
    try:
        while part := os.read(parent, 65_536):
            written += part
    except OSError:  # the last writer has closed it
        pass
    os.close(parent)
    return process.wait(), written.decode()


@pytest.mark.parametrize("columns", [60, pytest.param(100, marks=pytest.mark.slow)])
def test_a_fit_shows_its_phases_and_the_time_left_and_then_a_table(tmp_path: Path, columns: int) -> None:
    data = tmp_path / "ratings.csv"
    data.write_text("user,item,rating\n" + "".join(f"{n % 9},{n % 8},{1 + n % 5}\n" for n in range(72)))
    options = ["--data", str(data), "--split", "random:0.2", "--preset", "bias", "--set", "epochs=40"]
    code, written = on_a_terminal(columns, "evaluate", *options, "--device", "cpu")
    assert code == 0, written
    assert COLOUR.search(written)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPE.sub("", written))]
    assert any(re.match(r"✓ fitting bias .*40/40 RMSE \d\.\d{4} 0:\d\d$", line) for line in lines), written
    assert any(line.startswith("✓ evaluating on 15") for line in lines)
    assert [line.split()[0] for line in lines if line.startswith(("Data", "Fit", "Errors", "Ranking"))][-4:] == [
        "Data",
        "Fit",
        "Errors",
        "Ranking",
    ]
    assert max(map(len, lines)) <= columns


def test_no_colour_where_none_is_wanted_and_a_line_for_each_error(tmp_path: Path) -> None:
    code, written = on_a_terminal(60, "fit", "--data", "x.csv", "--preset", "bais", "--out", str(tmp_path))
    assert code == 2
    assert "\x1b[1;31merror:\x1b[0m no preset" in written
    code, plain = on_a_terminal(60, "presets", NO_COLOR="1")
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", plain)
    assert max(map(len, ESCAPE.sub("", plain).splitlines())) <= 60


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the programs that an installation makes of `[project.scripts]`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, target in SCRIPTS.items():
        module, _, function = target.partition(":")
        code = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    return folder


# Asks bash for the completions of the words after the program, as the key Tab does.
ASK = """\
eval "$({program} completion bash)"
COMP_WORDS=({program} {words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
$(complete -p {program} | sed -E 's/.*-F ([^ ]+).*/\\1/') {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(programs: Path, program: str, words: str, **environment: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK.format(program=program, words=words)],
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rror" not in done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_presets_data_sets_settings_and_versions(
    programs: Path, tmp_path: Path
) -> None:
    versions = sorted(publish(tmp_path / "out", small_draft()).version for _ in range(2))
    found = {
        words: completed(programs, "ratecast", words)
        for words in (
            "ex",
            "fit --warm",
            "fit --preset ''",
            "fit --data ml-",
            "fit --preset als --set relevance.f",
            f"activate --out {tmp_path}/out ''",
            "fit --device cu",
        )
    }
    assert list(found.values()) == [
        ["export"],
        ["--warm-start"],
        preset_names(),
        list(DATA_SETS),
        ["relevance.factors=64"],
        versions,
        ["cuda", "cuda:0"],
    ]
    assert completed(programs, "ratecast", "report --version ''", RATECAST_CHECKPOINTS=f"{tmp_path}/out") == versions


def test_bash_completes_the_options_of_the_service(programs: Path) -> None:
    assert completed(programs, "ratecast", "serve --wo") == ["--workers"]
    assert completed(programs, "ratecast", "serve --device cu") == ["cuda", "cuda:0"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_that_they_can_read(programs: Path, tmp_path: Path, shell: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [programs / "ratecast", "completion", shell], env=environment, capture_output=True, text=True, check=True
    )
    assert "ratecast" in done.stdout
    script = tmp_path / "script"
    script.write_text(done.stdout)
    if interpreter := shutil.which(shell):
        subprocess.run([interpreter, "-n", script], check=True)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_what_other_shells_ask_for_is_answered(programs: Path, shell: str) -> None:
    """The words are in variables, which their scripts fill: zsh gives the number of the word, fish the word itself."""
    last = {"zsh": "3", "fish": "ml-1"}[shell]
    asked = {"_RATECAST_COMPLETE": f"{shell}_complete", "COMP_WORDS": "ratecast fit --data ml-1", "COMP_CWORD": last}
    done = subprocess.run(
        [programs / "ratecast"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"ml-\w+", done.stdout) == [name for name in DATA_SETS if name.startswith("ml-1")]
