"""The newcomer's walk: the commands of docs/start.md, typed in their order into one shell, from `git clone` on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.pages import ROOT, Block, blocks
from tests.support.reader import Reader, same_keys

PAGE = list(blocks(ROOT / "docs/start.md"))
COMMANDS = [command for block in PAGE if block.language == "sh" for command in block.commands]
URL = "REPOSITORY_URL"
MOST = 10


@pytest.fixture
def newcomer(tmp_path: Path, cache: Path) -> Iterator[Reader]:
    """Somebody with an empty folder, git, make, curl and the Python that runs these tests.

    They need not wait until pip has compiled files that nobody imports, nor for a data set that was fetched before.
    """
    folder, notes = tmp_path / "empty", tmp_path / "notes"
    folder.mkdir()
    notes.mkdir()
    python = {"PYTHON": sys.executable, "PYTHONPATH": "", "PIP_NO_COMPILE": "1"}
    reader = Reader(folder, notes, python | {"RATECAST_CACHE": str(cache), "PATH": os.environ["PATH"]})
    yield reader
    reader.close()
    shutil.rmtree(folder)  # a virtual environment of more than a gigabyte, which pytest would keep


def test_a_prediction_for_ones_own_ratings_takes_ten_commands_at_most() -> None:
    predicts = next(number for number, command in enumerate(COMMANDS, 1) if "/predict" in command)
    assert COMMANDS[0] == f"git clone {URL} ratecast"
    assert predicts <= MOST


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_newcomer_gets_from_git_clone_to_a_prediction_for_their_own_ratings(newcomer: Reader) -> None:
    output, answers = "", list[dict[str, object]]()
    for before, block in pairwise([None, *PAGE]):
        if block.language == "sh":
            output = newcomer.read(_at_home(block))
        elif block.language == "json":
            assert before is not None
            assert same_keys(block.text, output), f"{block}: answered {output}"
            answers.append(json.loads(output))
    predicted, listed, movies = answers
    assert predicted["source"] == "model"
    assert 1 <= float(str(predicted["rating"])) <= 5
    assert {item["item"] for item in listed["items"]} == {"mirror", "hair"}  # type: ignore[attr-defined]
    assert movies["items"][0]["title"] is not None  # type: ignore[index]


def _at_home(block: Block) -> Block:
    return Block(block.page, block.line, block.info, block.text.replace(URL, str(ROOT)))
