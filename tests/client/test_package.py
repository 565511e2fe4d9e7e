"""The wheel: what is in it, what it needs, and that it works by itself."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
import ratecast_client

from tests.support import ROOT

CLIENT = ROOT / "client"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the folder alone, without an index."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(CLIENT, folder / "client", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(folder / "client")]
    subprocess.run(command, check=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    inside = {name for name in names if name.startswith("ratecast_client/")}
    source = {f"ratecast_client/{file.name}" for file in (CLIENT / "src/ratecast_client").iterdir() if file.is_file()}
    assert inside == source
    assert "ratecast_client/py.typed" in inside
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_wheel_says_what_it_is_and_needs_httpx_alone(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["Name"] == "ratecast-client"
    assert metadata["Version"] == ratecast_client.__version__ == project["version"]
    assert metadata["License-Expression"] == project["license"]
    assert metadata["Requires-Python"] == project["requires-python"]
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra" not in line]
    assert needed == ["httpx>=0.28"]
    assert metadata.get_payload().startswith("# ratecast-client")


def test_the_licence_is_that_of_the_project() -> None:
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ratecast_client as r; "
        "print(r.__file__, sorted({'app', 'models', 'training', 'torch', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == f"{tmp_path}/ratecast_client/__init__.py []"


def imported() -> Iterator[str]:
    for file in (CLIENT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield str(node.module).partition(".")[0]


def test_the_package_imports_nothing_but_what_it_names() -> None:
    others = set(imported()) - sys.stdlib_module_names
    assert others == {"ratecast_client", "httpx", "pandas", "pyarrow"}


def test_what_is_exported_is_there_and_each_once() -> None:
    names = ratecast_client.__all__
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(ratecast_client, name)] == []
