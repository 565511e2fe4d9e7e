"""Clients that others generate from the OpenAPI document: their code is checked by its compiler, and asks a service."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import ROOT
from tests.support.pages import blocks
from tests.support.service import Start

HERE = Path(__file__).parent
KEY = "a-key-of-sixteen-characters"
TSC = ("--noEmit", "false", "--strict", "--module", "nodenext", "--target", "es2022", "--outDir", "out")
# What the generator cannot say in Python: bodies of bytes are bytes. The files that it writes for every client alike
# are its own.
GENERATOR = "post_hooks: []\ncontent_type_overrides:\n  application/msgpack: application/octet-stream\n  "
GENERATOR += "application/vnd.apache.arrow.stream: application/octet-stream\n"
MYPY = "[mypy]\nstrict = True\nfollow_untyped_imports = True\n[mypy-generated.client]\nignore_errors = True\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(start: Start, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = tmp_path_factory.mktemp("store") / "ratings.sqlite"
    with start(checkpoints, store=f"sqlite:///{store}", admin_keys=KEY) as (client, _):
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture
def folder(tmp_path: Path, service: httpx.Client) -> Path:
    """A folder with the OpenAPI document of the service."""
    (tmp_path / "openapi.json").write_bytes(service.get("/openapi.json").content)
    return tmp_path


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answered(service: httpx.Client) -> dict[str, Any]:
    """What the service answers to a client of no generator."""
    rating = service.post("/predict", json={"user": "196", "item": "242"}).json()["rating"]
    listed = service.get("/users/196/top?n=3&exclude=50").json()["items"]
    return {"rating": rating, "items": [item["item"] for item in listed]}


@pytest.mark.timeout(300)
def test_a_client_of_openapi_python_client_is_of_sound_types_and_is_answered(
    folder: Path, service: httpx.Client
) -> None:
    programs = Path(sys.executable).parent
    (folder / "generator.yaml").write_text(GENERATOR)
    (folder / "mypy.ini").write_text(MYPY)
    shutil.copy(HERE / "use.py", folder)
    generate = ("generate", "--path", "openapi.json", "--meta", "none", "--output-path", "generated")
    said = run(folder, programs / "openapi-python-client", *generate, "--config", "generator.yaml", "--fail-on-warning")
    assert "WARNING" not in said
    run(folder, programs / "mypy", "--cache-dir", "cache", "--config-file", "mypy.ini", "generated", "use.py")
    found = json.loads(run(folder, sys.executable, "use.py", str(service.base_url).rstrip("/"), KEY))
    assert found.items() >= answered(service).items()
    assert (found["stored"], found["status"], len(found["ratings"])) == ([4.5], 404, 2)
    operations = [
        each
        for methods in json.loads((folder / "openapi.json").read_text())["paths"].values()
        for each in methods.values()
    ]
    written = {path.stem for path in (folder / "generated/api").glob("*/*.py")}
    assert {operation["operationId"] for operation in operations} <= written


@pytest.mark.timeout(300)
def test_types_of_openapi_typescript_compile_and_a_program_with_them_is_answered(
    folder: Path, service: httpx.Client
) -> None:
    for name in ("package.json", "use.ts", "page.ts"):
        shutil.copy(HERE / name, folder)
    run(folder, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent")
    run(folder, "node_modules/.bin/openapi-typescript", "openapi.json", "--output", "api.d.ts")
    (program,) = [block.text for block in blocks(ROOT / "docs/web-page.md") if block.language == "typescript"]
    (folder / "recommendations.ts").write_text(program)
    run(folder, "node_modules/.bin/tsc", *TSC, "use.ts", "page.ts")
    found = json.loads(run(folder, "node", "out/use.js", str(service.base_url).rstrip("/")))
    assert (found["length"], found["status"]) == (3, 404)
    assert found["rating"] == answered(service)["rating"]
    before, after = json.loads(run(folder, "node", "out/page.js", str(service.base_url).rstrip("/"), KEY))
    assert len(before) == len(after) == 3
    assert before[0] not in after
    (stored,) = service.get("/users/of a page/ratings").json()["ratings"]
    assert (stored["item"], stored["rating"]) == (before[0], 5)
