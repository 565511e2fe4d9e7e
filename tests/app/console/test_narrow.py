"""What a view shows where there is little room, and of data that have less than MovieLens has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page, expect

from models.registry.directory import publish
from tests.support.browser import watching
from tests.support.drafts import random_draft
from tests.support.service import serving

PHONE = {"width": 360, "height": 800}


@pytest.fixture
def narrow(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with watching(browser, str(client.base_url).rstrip("/"), viewport=PHONE) as watched:
        yield watched.page


def test_a_table_that_is_cut_says_so_until_its_end_is_seen(narrow: Page) -> None:
    narrow.goto("/")
    table = narrow.get_by_role("region", name="Published versions")
    cue = narrow.get_by_text("There are more columns")
    expect(cue).to_be_visible()
    table.evaluate("node => { node.scrollLeft = node.scrollWidth }")
    expect(cue).to_be_hidden()
    table.evaluate("node => { node.scrollLeft = 0 }")
    expect(cue).to_be_visible()
    narrow.set_viewport_size({"width": 1280, "height": 800})
    expect(cue).to_be_hidden()


@pytest.fixture
def ten_points(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page of a service whose scale has ten levels, and whose items have no years."""
    draft = random_draft(seed=1)
    years = pa.nulls(len(draft.items), pa.int32())
    items = draft.items.set_column(draft.items.schema.get_field_index("year"), draft.items.schema.field("year"), years)
    publish(tmp_path, replace(draft, scale=(1.0, 10.0), items=items))
    with serving(tmp_path, store="none") as service, watching(browser, service.url, viewport=PHONE) as watched:
        yield watched.page


@pytest.mark.slow
def test_ten_levels_are_in_one_row_and_years_are_no_filter_where_no_item_has_one(ten_points: Page) -> None:
    page = ten_points
    page.goto("/#try")
    marks = page.locator(".to-rate li").first.get_by_role("radio")
    expect(marks).to_have_count(10)
    for width in (360, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        boxes = [mark.bounding_box() for mark in marks.all()]
        assert len({box["y"] for box in boxes}) == 1, width
        assert min(box["width"] for box in boxes) >= 24, width  # WCAG 2.2, 2.5.8
    marks.nth(9).check()
    expect(page.get_by_text("Based on 1 of your ratings.")).to_be_visible()
    expect(page.get_by_label("Genre")).to_be_visible()
    expect(page.get_by_label("From year")).to_have_count(0)


def test_years_are_a_filter_where_items_have_them(narrow: Page) -> None:
    narrow.goto("/#try")
    expect(narrow.get_by_label("From year")).to_be_visible()
