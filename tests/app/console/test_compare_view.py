"""Two versions beside each other: errors on the same ratings, a user's lists by both, and what going back means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from models.registry.directory import activate, publish
from tests.support.browser import Watched, watching
from tests.support.drafts import random_draft, write_held_out
from tests.support.service import Start, serving


def test_one_version_alone_is_said_to_be_alone(browser: Browser, client: httpx.Client) -> None:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        watched.page.goto("/#compare")
        expect(watched.page.get_by_text("There is one version.")).to_be_visible()
        assert watched.complaints == []


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    """Three: the second was served before the third, and only the third has held-out ratings."""
    drafts = [random_draft(seed) for seed in range(3)]
    drafts[2] = replace(drafts[2], write_report=write_held_out)
    published = [publish(tmp_path, draft).version for draft in drafts]
    for version in published[1:]:
        activate(tmp_path, version)
    return published


@pytest.fixture
def served(
    start: Start, browser: Browser, tmp_path: Path, versions: list[str]
) -> Iterator[tuple[Watched, httpx.Client]]:
    with (
        start(tmp_path, store="none") as (client, _),
        watching(browser, str(client.base_url).rstrip("/")) as watched,
    ):
        yield watched, client


@pytest.mark.slow
def test_two_versions_are_compared_as_the_service_does(
    served: tuple[Watched, httpx.Client], versions: list[str]
) -> None:
    watched, client = served
    page = watched.page
    page.goto("/#compare")
    expect(page.get_by_label("Version", exact=True)).to_have_value(versions[2])
    expect(page.get_by_label("Another version")).to_have_value(versions[1])
    found = client.get("/models/compare", params={"version": versions[2], "against": versions[1]}).json()
    tiles = page.locator(".tile .figure")
    expect(tiles).to_have_text([f"{found[name]:.4f}" for name in ("rmse", "rmse_against", "difference")])
    expect(page.get_by_text("The first predicts better.")).to_be_visible()
    page.get_by_label("Another version").focus()
    page.keyboard.press("End")
    expect(page.get_by_label("Another version")).to_have_value(versions[0])
    other = client.get("/models/compare", params={"version": versions[2], "against": versions[0]}).json()
    expect(tiles.nth(1)).to_have_text(f"{other['rmse_against']:.4f}")
    page.get_by_label("Lists of the user").fill("7")
    page.keyboard.press("Enter")
    first = page.get_by_role("list", name="List 1").get_by_role("listitem")
    expect(first).to_have_count(10)
    expect(page.get_by_text("This version does not answer now.")).to_be_visible()
    client.put("/models/split", json={"version": versions[0], "share": 0.5}).raise_for_status()
    page.reload()
    expect(page.get_by_label("Another version")).to_have_value(versions[0])
    page.get_by_label("Lists of the user").fill("7")
    page.keyboard.press("Enter")
    for at, version in ((1, versions[2]), (2, versions[0])):
        listed = client.get("/users/7/top", params={"n": 10, "model_version": version}).json()["items"]
        expect(page.get_by_role("list", name=f"List {at}").locator(".title")).to_have_text(
            [re.compile(re.escape((item["title"] or item["item"]).strip())) for item in listed]
        )
    page.get_by_label("Another version").select_option(versions[2])
    expect(page.get_by_text("Choose two different versions.")).to_be_visible()


@pytest.mark.slow
def test_versions_that_cannot_be_compared_are_said_to_be(
    served: tuple[Watched, httpx.Client], versions: list[str]
) -> None:
    page = served[0].page
    page.goto("/#compare")
    page.get_by_label("Version", exact=True).select_option(versions[0])
    expect(page.get_by_role("alert")).to_contain_text("The versions cannot be compared")


@pytest.mark.slow
def test_going_back_says_what_it_changes(browser: Browser, tmp_path: Path, versions: list[str]) -> None:
    with serving(tmp_path, store="none") as service, watching(browser, service.url) as watched:
        page = watched.page
        page.goto("/")
        page.get_by_role("button", name="Roll back one version").press("Enter")
        dialog = page.get_by_role("dialog", name="Roll back to this version?")
        expect(dialog).to_contain_text(versions[1])
        expect(dialog).to_contain_text("It predicts worse than the version being served")
        dialog.get_by_role("button", name="Roll back").press("Enter")
        expect(page.get_by_text(f"The service now serves {versions[1]}.")).to_be_visible()
