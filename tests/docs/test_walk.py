"""The newcomer's walk: the commands of docs/start.md, typed in their order into one shell, from `git clone` on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.browser import launch, watching
from tests.support.pages import ROOT, Block, blocks
from tests.support.reader import OFF, Reader, same_keys, same_numbers
from tests.support.service import is_ready
from tests.support.waiting import wait_until

PAGE = list(blocks(ROOT / "docs/start.md"))
COMMANDS = [command for block in PAGE if block.language == "sh" for command in block.commands]
URL = "REPOSITORY_URL"
MOST = 8  # commands to a service whose console shows the titles


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


def test_a_console_with_ones_own_ratings_and_titles_takes_eight_commands_at_most() -> None:
    serves = next(number for number, command in enumerate(COMMANDS, 1) if "ratecast serve" in command)
    assert COMMANDS[0] == f"git clone {URL} ratecast"
    assert serves <= MOST
    assert any("--items titles.csv" in command for command in COMMANDS[:serves])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_newcomer_gets_from_git_clone_to_their_own_titles_and_predictions(newcomer: Reader) -> None:
    output, answers = "", list[dict[str, object]]()
    for before, block in pairwise([None, *PAGE]):
        if block.language == "sh":
            output = newcomer.read(_at_home(block))
            if "ratecast serve" in block.text:
                wait_until(lambda: is_ready(f"http://127.0.0.1:{newcomer.port}"), seconds=100)
                see_titles(f"http://127.0.0.1:{newcomer.port}")
        elif block.language == "json":
            assert before is not None
            assert same_keys(block.text, output), f"{block}: answered {output}"
            assert same_numbers(block.text, output, OFF), f"{block}: answered {output}"
            answers.append(json.loads(output))
    predicted, listed, movies = answers
    assert predicted["source"] == "model"
    assert 1 <= float(str(predicted["rating"])) <= 5
    assert {item["item"] for item in listed["items"]} == {"mirror", "hair"}  # type: ignore[attr-defined]
    assert movies["items"][0]["title"] is not None  # type: ignore[index]


def see_titles(origin: str) -> None:
    """What the page says that the console shows: the items by their titles, and the list of a user with its reasons."""
    with sync_playwright() as playwright, closing(launch(playwright)) as browser, watching(browser, origin) as watched:
        page = watched.page
        page.goto("/#items")
        for title in ("Alien", "Grease", "Hair", "Mirror", "Solaris", "Stalker"):
            expect(page.get_by_role("region", name="All items").get_by_role("link", name=title)).to_be_visible()
        page.goto("/#users/ann")
        expect(page.get_by_role("list", name="List for ann").locator("li").first).to_contain_text("Mirror")
        page.get_by_role("button", name="Why Mirror?").click()
        expect(page.locator(".reasons")).to_contain_text("Stalker")
        assert watched.complaints == []


def _at_home(block: Block) -> Block:
    return Block(block.page, block.line, block.info, block.text.replace(URL, str(ROOT)))
