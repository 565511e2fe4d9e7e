"""Every code block of README.md and docs/ is run, in the order of its page, against a real service."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from app.settings import PREFIX, Settings
from tests.support.pages import PAGES, ROOT, Block, blocks, outside_of_blocks
from tests.support.reader import ADDRESS, OFF, SERVES, Reader, mirror, same_keys, same_numbers, without_numbers
from training.data.synthetic import planted

LANGUAGES = {"sh", "python", "json", "toml", "yaml", "text", "typescript"}  # the last: see tests/generated
MARKS = {"needs-docker", "needs-kubectl", "needs-gpu", "drawing"}
ELSEWHERE = {"needs-docker", "needs-kubectl"}
FEW = 12  # blocks that are not run as they stand
BLOCKS = [block for page in PAGES for block in blocks(page)]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
OPEN_FOLDERS = frozenset(str(folder) for block in BLOCKS if block.file for folder in Path(block.file).parents)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A checkpoint directory with a model of MovieLens-100K: that of `als`, which is the same on all machines."""
    out = tmp_path_factory.mktemp("trained") / "checkpoints"
    fit = [sys.executable, "-m", "training", "fit", "--data", "ml-100k", "--split", "random:0.1", "--preset", "als"]
    subprocess.run([*fit, f"--out={out}"], check=True, cwd=ROOT, env=_environment(ROOT, cache), capture_output=True)
    return out


@pytest.fixture
def reader(request: pytest.FixtureRequest, tmp_path: Path, trained: Path, cache: Path) -> Iterator[Reader]:
    """A reader in a working tree with a model, and ratings of their own."""
    folder, notes = tmp_path / "ratecast", tmp_path / "notes"
    notes.mkdir()
    mirror(ROOT, folder, OPEN_FOLDERS)
    shutil.copytree(trained, folder / "checkpoints")
    _write_ratings(folder / "ratings.csv")
    reader = Reader(folder, notes, _environment(folder, cache))
    yield reader
    reader.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "start"], ids=lambda page: page.name)
def test_a_reader_can_do_what_a_page_says(page: Path, request: pytest.FixtureRequest) -> None:
    """Shell and Python blocks succeed; what is shown after them is what comes back, but for numbers in texts."""
    mine = [block for block in blocks(page) if _is_run(block)]
    if not mine:
        return
    reader: Reader = request.getfixturevalue("reader")
    if _expects_a_service(mine):
        reader.start("python -m app --checkpoints checkpoints")
    output = ""
    for before, block in pairwise([None, *blocks(page)]):
        if _is_run(block):
            output = reader.read(block)
        elif before is not None and _is_run(before) and block.language == "json":
            assert same_keys(block.text, output), f"{block}: answered {output}"
            if "-bayes-" not in block.text:  # whose samples, and so the second digit, differ between machines
                assert same_numbers(block.text, output, OFF), f"{block}: answered {output}"
        elif before is not None and _is_run(before) and block.language == "text":
            assert without_numbers(block.text) == without_numbers(output), f"{block}: printed {output}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is_and_can_be_read_as_that(block: Block) -> None:
    assert block.language in LANGUAGES
    assert set(block.marks) <= MARKS
    check = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load, "sh": _check_syntax}
    check.get(block.language, str)(block.text)
    if block.language == "python":
        compile(block.text, str(block), "exec")


def test_few_blocks_are_not_run_as_they_stand() -> None:
    assert len([block for block in BLOCKS if set(block.marks) - {"drawing"}]) <= FEW


def test_text_is_shown_only_after_what_prints_it() -> None:
    """So that nothing hides in a block that no test looks at; formulas are no blocks."""
    for page in PAGES:
        for before, block in pairwise([None, *blocks(page)]):
            if block.language == "text" and "drawing" not in block.marks:
                assert before is not None, block
                assert _is_run(before), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_indented_instead_of_fenced_is_a_formula(page: Path) -> None:
    lines = re.findall(r"(?<=\n\n)(?: {4}\S.*\n)+", outside_of_blocks(page))
    assert [text for text in lines if not re.search(r"[=≈←~]|Σ", text)] == []
    assert [
        text for text in lines if re.search(r"^ +(\S*python|curl|make|docker|pip|git|export) ", text, re.MULTILINE)
    ] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if ELSEWHERE & set(block.marks)], ids=str)
def test_what_needs_docker_or_a_cluster_names_files_and_services_that_exist(block: Block) -> None:
    for words in (shlex.split(command, comments=True) for command in block.commands):
        files = [after for word, after in pairwise(words) if word in ("-f", "-k")]
        assert [file for file in files if not (ROOT / file).exists()] == []
        if words[:2] == ["docker", "compose"]:
            assert set(words) & {*COMPOSE["services"], "up", "down", "ps", "logs", "build"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_a_fragment_of_compose_is_of_services_that_exist(block: Block) -> None:
    fragment = yaml.safe_load(block.text)
    assert fragment.keys() <= COMPOSE.keys()
    assert fragment["services"].keys() <= COMPOSE["services"].keys()
    for name, service in fragment["services"].items():
        assert set(service.get("environment", {})) <= _settings() | set(
            COMPOSE["services"][name].get("environment", {})
        )


def _is_run(block: Block) -> bool:
    """Whether the test runs it. `make` builds environments and runs tests: `test_walk.py` types that."""
    if block.file is not None:
        return True
    if block.language == "sh":
        return not set(block.marks) - {"needs-gpu"} and not block.text.startswith("make ")
    return block.language == "python"


def _expects_a_service(mine: list[Block]) -> bool:
    """Whether the page asks a service before it has started one."""
    starts = next((number for number, block in enumerate(mine) if SERVES.search(block.text)), len(mine))
    return any(ADDRESS in block.text for block in mine[:starts])


def _check_syntax(text: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets


def _settings() -> set[str]:
    return {PREFIX + name.upper() for name in Settings.model_fields}


def _environment(folder: Path, cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RATECAST_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": programs, "PYTHONPATH": f"{folder}:{folder}/client/src", "RATECAST_CACHE": str(cache)}


def _write_ratings(path: Path) -> None:
    """The reader's own ratings, of people and things that the model does not know."""
    users_N, items_N, ratings_N = planted(300, 200, 8_000, np.random.default_rng(0))
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "rating"])
        rows.writerows(
            (f"u{user}", f"i{item}", rating) for user, item, rating in zip(users_N, items_N, ratings_N, strict=True)
        )
