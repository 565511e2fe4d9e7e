"""The report as a browser shows it, read from the disk: it asks for nothing, and axe-core has no objection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from models.registry.directory import published
from training import job
from training.config import JobConfig
from training.data.fetch import default_cache

pytestmark = pytest.mark.slow
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
SHORT = [
    "trial=0",
    "samples=5",
    "burn_in=2",
    "relevance.sweeps=2",
    "relevance.regression_items=0",
]  # of a fit whose quality does not matter here


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a model of ml-100k with every part: a second version, with intervals and titles."""
    out = tmp_path_factory.mktemp("checkpoints")
    options = {"data": ["ml-100k"], "split": "random:0.1", "cache": default_cache(), "device": "cpu", "out": out}
    figures = {}
    for preset, overrides in (("bias", []), ("bayes", SHORT)):
        config = JobConfig(preset=preset, overrides=overrides, force=True, **options)
        figures = job.run(config, lambda _: None).figures
    return Path(str(figures["checkpoint"])) / "report" / "index.html"


@pytest.fixture(
    params=[(PHONE, "light"), (PHONE, "dark"), (DESKTOP, "light"), (DESKTOP, "dark")],
    ids=["phone, light", "phone, dark", "desktop, light", "desktop, dark"],
)
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """The page in a window of a size and a colour scheme; it must ask for nothing and log nothing."""
    size, scheme = request.param
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert said == []


def test_axe_finds_nothing_to_object_to(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_titles_stand_in_the_lists(page: Page) -> None:
    assert page.get_by_text("Star Wars (1977)").count() > 0


def test_a_second_version_is_compared_with_the_first(page: Page, report: Path) -> None:
    first = published(report.parents[2])[0].version
    assert "-bias-" in first
    assert page.get_by_text(f"When this model was fitted, {first} was being served").is_visible()
    assert page.get_by_text("Both were measured on the same held-out ratings").is_visible()


def test_charts_have_names_and_the_page_a_heading(page: Page) -> None:
    assert page.get_by_role("img", name="RMSE after each pass").is_visible()
    assert page.get_by_role("heading", level=1).inner_text() == "Training report: ml-100k, bayes"
