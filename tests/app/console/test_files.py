"""The console's files as a browser gets them, without one."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.console.routes import PATHS, STATIC, read_files
from app.main import create_app
from app.settings import Settings
from tests.support import ROOT
from tests.support.asgi import Caller, calling

LARGEST = 180_000  # bytes of script and style, uncompressed


@pytest.fixture(scope="module")
def call(checkpoints: Path) -> Iterator[Caller]:
    """A service that asks for keys."""
    with calling(create_app(Settings(checkpoints=checkpoints, api_keys=SecretStr("a-key-0123456789")))) as call:
        yield call


@pytest.mark.parametrize("path", PATHS)
def test_every_file_is_served_without_a_key_under_a_strict_policy_and_looked_for_anew(call: Caller, path: str) -> None:
    answer = call("GET", path)
    assert (answer.status, answer.body) == (200, (STATIC / PATHS[path]).read_bytes())
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert ":" not in policy  # no other host, no data
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip, deflate, br", True), ("GZIP;q=0.5", True), ("", False), ("br", False), ("gzip;q=0", False)],
)
def test_a_file_is_compressed_for_those_who_accept_it(call: Caller, accepted: str, compressed: bool) -> None:
    answer = call("GET", "/console/app.js", headers=[("accept-encoding", accepted)])
    assert (answer.headers.get("content-encoding") == "gzip") == compressed
    assert answer.headers["vary"] == "Accept-Encoding"
    body = gzip.decompress(answer.body) if compressed else answer.body
    assert body == (STATIC / "app.js").read_bytes()


def test_a_file_that_the_browser_has_is_not_sent_again(call: Caller) -> None:
    etag = call("GET", "/").headers["etag"]
    for known, status in ((etag, 304), (f'"x", {etag}', 304), ('"x"', 200), ("", 200)):
        answer = call("GET", "/", headers=[("if-none-match", known)])
        assert (answer.status, answer.body == b"") == (status, status == 304)


@pytest.mark.parametrize("path", ["/console/", "/console/nothing.js", "/console/../files.py", "/console//app.js"])
def test_what_is_no_file_of_the_console_needs_a_key_and_is_a_404(call: Caller, path: str) -> None:
    assert call("GET", path).status == 401
    answer = call("GET", path, headers=[("authorization", "Bearer a-key-0123456789")])
    assert (answer.status, json.loads(answer.body)["status"]) == (404, 404)


def test_script_and_style_are_small() -> None:
    sizes = {path: len(file.body) for path, file in read_files().items() if path.endswith((".js", ".css"))}
    assert sum(sizes.values()) <= LARGEST, sizes


def test_the_page_loads_every_module_and_nothing_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    modules = {path.removeprefix("/") for path in PATHS if path.endswith(".js")} - {"console/vendor/uplot.js"}
    assert [module for module in sorted(modules) if f'"{module}"' not in page] == []
    assert "http" not in page


def test_every_library_comes_with_its_licence_and_says_where_from() -> None:
    script = (STATIC.parent / "vendor.sh").read_text("utf-8")
    for name in ("preact", "htm", "uplot"):
        assert (STATIC / "vendor" / f"{name}.LICENSE.txt").is_file()
        assert f"fetch {name} " in script


def test_a_wheel_contains_the_console(tmp_path: Path) -> None:
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "app", "models", "training"):
        (source / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"app/console/static/{name}" for name in PATHS.values()} <= names
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["name"] in wheel.name
