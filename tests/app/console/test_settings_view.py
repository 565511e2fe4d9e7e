"""What an admin sees of the service and of its fits; others are told why they do not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from models.registry.directory import note_fit
from models.registry.last_fit import LastFit
from tests.support.browser import ADMIN, KEY, watching
from tests.support.service import Start


def refused(next_at: datetime) -> LastFit:
    """A fit that was refused a minute ago."""
    now = datetime.now(UTC)
    return LastFit(
        outcome="refused",
        began_at=now - timedelta(minutes=3),
        ended_at=now - timedelta(minutes=1),
        version=None,
        reason="not published: RMSE 1.0213 does not beat the bias model's 0.9812",
        next_at=next_at,
    )


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with watching(browser, str(client.base_url).rstrip("/")) as watched:
        yield watched.page
        assert watched.complaints == []


def enter(page: Page, key: str) -> None:
    page.get_by_role("button", name="Keys").press("Enter")
    page.get_by_label("Admin key").fill(key)
    page.keyboard.press("Enter")


@pytest.mark.slow
def test_an_admin_sees_the_settings_and_why_the_last_fit_was_refused(
    start: Start, browser: Browser, checkpoints: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(checkpoints, tmp_path / "checkpoints"))
    with (
        start(own, api_keys=KEY, admin_keys=ADMIN) as (client, _),
        watching(browser, str(client.base_url).rstrip("/")) as watched,
    ):
        page = watched.page
        page.add_init_script(f"sessionStorage.setItem('ratecast.key', '{KEY}')")
        page.goto("/#settings")
        expect(page.get_by_text("Only an admin key may read the settings")).to_be_visible()
        expect(page.get_by_text("RATECAST_PORT")).to_have_count(0)
        enter(page, ADMIN)
        fit = page.locator(".card").filter(has=page.get_by_role("heading", name="Last fit"))
        expect(fit).to_contain_text("No fit has been noted yet.")
        line = page.locator("li").filter(has_text="RATECAST_ADMIN_KEYS")
        expect(line.first).to_contain_text("1 key")
        assert ADMIN not in page.locator("main").inner_text()
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        note_fit(own, refused(tomorrow))
        page.reload()
        expect(fit.locator(".badge")).to_have_text("refused")
        expect(fit).to_contain_text("after 2 minutes")
        expect(fit).to_contain_text("RMSE 1.0213 does not beat")
        expect(fit).to_contain_text(tomorrow.astimezone().strftime("%b %-d, %Y"))
        note_fit(own, refused(datetime.now(UTC) - timedelta(hours=2)))
        page.reload()
        expect(fit).to_contain_text("It was due 2 hours ago")


def test_where_there_are_no_keys_everybody_sees_the_settings(page: Page) -> None:
    page.goto("/#settings")
    line = page.locator("li").filter(has_text="RATECAST_MAX_LIST")
    expect(line).to_contain_text("1000 by default")
    expect(page.get_by_role("button")).to_have_text(["Keys"])
