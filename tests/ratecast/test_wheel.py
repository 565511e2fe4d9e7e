"""The wheel, installed into an empty environment and used from an empty directory."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import click
import numpy as np
import pytest

from tests.support import ROOT
from training.data.synthetic import planted

COMMANDS = "fit evaluate tune compare serve import export report list activate rollback prune datasets presets"
PACKAGES = ("app", "models", "ratecast", "training")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tree: building leaves files behind."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, tree]
    subprocess.run(command, check=True)
    (found,) = out.glob("ratecast-*.whl")
    return found


class Installed:
    """The wheel in an environment without any other package. Programs run in an empty directory."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.programs, self.folder = folder / "environment/bin", folder / "empty"
        self.folder.mkdir()
        venv.create(folder / "environment", symlinks=True)
        python = self.programs / "python"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
            wheel,
        ]
        subprocess.run(pip, check=True)
        found = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.packages = Path(found.stdout.strip())

    def add_the_packages_that_it_needs(self) -> None:
        """Those of the environment of the tests; the tree that these run from is not among them."""
        (self.packages / "needed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))

    def run(self, *words: str, code: int = 0) -> str:
        environment = {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(self.folder)}
        command = [self.programs / words[0], *words[1:]]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, env=environment, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Installed:
    return Installed(wheel, tmp_path)


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert [name for name in tracked if name not in inside and not name.endswith(".sh")] == []
    assert {name.split("/")[0] for name in inside if not name.startswith("ratecast-")} == {*PACKAGES}


def test_an_install_without_the_extras_says_which_to_install(installed: Installed) -> None:
    for words in ((), ("fit", "--data", "ratings.csv"), ("serve",)):
        said = installed.run("ratecast", *words, code=2)
        named = " ".join(["ratecast", *words[:1]])
        assert said.startswith(f"ratecast: {named} needs the package click, which is not installed: pip install ")
        assert "'ratecast[train,serve]'" in said
        assert len(said.splitlines()) == 1
    shutil.copytree(Path(click.__file__).parent, installed.packages / "click")
    assert "--checkpoints DIR" in installed.run("ratecast", "serve", "--help")
    assert "'ratecast[serve]' for this command alone" in installed.run("ratecast", "serve", code=2)


def test_the_program_fits_serves_and_is_imported_in_an_empty_directory(installed: Installed) -> None:
    installed.add_the_packages_that_it_needs()
    guide = installed.run("ratecast", "--help")
    assert [name for name in COMMANDS.split() if f"\n  {name} " not in guide] == []
    with (installed.folder / "ratings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "rating"])
        rows.writerows(
            zip(*(column.tolist() for column in planted(60, 40, 900, np.random.default_rng(0))), strict=True)
        )
    fit = ("fit", "--data", "ratings.csv", "--preset", "bias", "--out", "models-here", "--quiet", "--json")
    version = json.loads(installed.run("ratecast", *fit).splitlines()[-1])["version"]
    assert version in installed.run("ratecast", "list", "--out", "models-here")
    check = ("serve", "--checkpoints", "models-here", "--port", "0", "--check", "--json")
    assert json.loads(installed.run("ratecast", *check))["version"] == version
    code = "import ratecast; print(ratecast.open_model('models-here').top('0', 3)['item'].tolist(), ratecast.__file__)"
    said = installed.run("python", "-c", code)
    assert str(installed.packages) in said
    assert "sweeps" in installed.run("python", "-m", "ratecast", "presets", "als")
