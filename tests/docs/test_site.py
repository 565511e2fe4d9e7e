"""The built documentation in a browser, opened from the disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import watching

pytestmark = pytest.mark.slow
LAPTOP = {"width": 1280, "height": 800}
CUT = """() => [...document.querySelectorAll("pre > code")]
  .filter((code) => code.scrollWidth > code.clientWidth || code.getBoundingClientRect().right > innerWidth)
  .map((code) => code.innerText.slice(0, 60))"""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with watching(browser, "file://", viewport=LAPTOP) as watched:
        yield watched.page
        assert watched.complaints == []
        assert watched.elsewhere == []


def test_what_people_look_for_is_found_from_the_disk(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    menu = page.get_by_role("navigation", name="Tabs")
    for name in ("Tutorial", "Guides", "Reference", "Benchmarks"):
        expect(menu.get_by_role("link", name=name)).to_be_visible()
    field = page.get_by_role("textbox", name="Search")
    expect(field).to_be_visible()
    results = page.locator(".md-search-result__item")
    for words, found in {
        "A/B test": "operations.html#an-ab-test-two-versions-at-once",
        "live error": "evaluation.html#live-error",
        "own catalogue": "your-own-data.html#your-own-catalogue-titles-years-genres-labels",
        "tuning": "evaluation.html#tuning",
        "MySQL": "your-own-data.html#databases-mysql-postgresql-duckdb-sqlite",
        "S3": "your-own-data.html#s3-and-other-object-stores",
        "notebook": "notebook.html",
        "TypeScript": "web-page.html",
    }.items():
        file, _, anchor = found.partition("#")
        field.fill("")
        field.press_sequentially(words)
        link = results.locator(f'a[href*="{file}"]' + (f'[href$="#{anchor}"]' if anchor else "")).first
        expect(link).to_be_visible(timeout=20_000)
    link.click()
    expect(page.get_by_role("heading", name="From a web page")).to_be_visible()
    assert re.search(r"/web-page\.html", page.url)


def test_no_block_of_code_is_cut(page: Page, site: Path) -> None:
    found = {}
    for file in sorted(site.rglob("*.html")):
        if file.name != "404.html":  # its paths are those of a server
            page.goto(file.as_uri())
            found[file.relative_to(site).as_posix()] = page.evaluate(CUT)
    assert {name: cut for name, cut in found.items() if cut} == {}
    assert len(found) > 20
