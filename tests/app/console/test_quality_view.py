"""The live error, drift, and what has come since the fit: as the service counts them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from models.checkpoint.manifest import Drift
from models.registry.directory import publish
from tests.support.browser import ADMIN, KEY, watching
from tests.support.drafts import random_draft
from tests.support.service import Start
from tests.support.waiting import wait_until

CHANGE = Drift(
    against="20261124T021910Z-textbook-6c8073",
    rating_mean=3.25,
    rating_deviation=1.0,
    known_users=0.9,
    known_items=0.8,
    coverage=0.725,
)


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        yield watched.page
        assert watched.complaints == []


def test_where_nothing_has_come_in_the_view_says_so(page: Page) -> None:
    page.goto("/#quality")
    expect(page.get_by_text("No new ratings in this time.")).to_be_visible()
    expect(page.get_by_text("This version was the first")).to_be_visible()
    expect(page.locator(".tile").filter(has_text="Live RMSE")).to_contain_text("no new rating was compared")
    expect(page.get_by_text("No rating is stored.")).to_be_visible()
    with page.expect_request(re.compile("/quality.days=7$")), page.expect_request(re.compile("/ratings.days=7$")):
        page.get_by_role("radio", name="7 days").check()


@pytest.mark.slow
def test_errors_and_ratings_are_those_that_the_service_counts(start: Start, browser: Browser, tmp_path: Path) -> None:
    draft = random_draft(seed=0)
    publish(tmp_path, replace(draft, data=draft.data.model_copy(update={"drift": CHANGE})))
    with (
        start(tmp_path, api_keys=KEY, admin_keys=ADMIN) as (client, process),
        watching(browser, str(client.base_url).rstrip("/")) as watched,
    ):
        client.headers["Authorization"] = f"Bearer {ADMIN}"
        for user, rating in enumerate((1, 2, 5)):
            client.put(f"/users/new {user}/ratings/3", json={"rating": rating}).raise_for_status()
        wait_until(lambda: client.get("/quality").json()["figures"], process)
        wait_until(lambda: client.get("/quality").json()["waiting"] == 0, process)
        (figures,) = (one for one in client.get("/quality").json()["figures"] if one["source"] == "all")
        page = watched.page
        page.add_init_script(f"sessionStorage.setItem('ratecast.key', '{KEY}')")
        page.goto("/#quality")
        expect(page.get_by_text("Only an admin key may read the ratings")).to_be_visible()
        tile = page.locator(".tile").filter(has_text="Live RMSE")
        expect(tile.locator(".figure")).to_have_text(f"{figures['rmse']:.4f}")
        expect(tile).to_contain_text("of 3 new ratings")
        table = page.get_by_role("region", name="Live error")
        expect(table.get_by_role("row").filter(has_text="all")).to_contain_text(f"{figures['bias_rmse']:.4f}")
        expect(page.locator(".card").filter(has_text="Drift")).to_contain_text("72.5 %")
        page.get_by_role("button", name="Keys").press("Enter")
        page.get_by_label("Admin key").fill(ADMIN)
        page.keyboard.press("Enter")
        fresh = page.locator(".tile").filter(has_text="Fresh since the fit")
        expect(fresh.locator(".figure")).to_have_text("3")
        expect(fresh).to_contain_text("3 users")
        today = datetime.now(UTC).date().isoformat()
        bars = page.get_by_role("img", name="3 ratings in the last 30 days, at most 3 a day")
        expect(bars.locator("title").last).to_have_text(f"{today}: 3")
